"""Feedback: what happened, what people thought of it, what that is worth, and how it travels."""
