"""Anthropic's Messages API: what it takes and what it answers."""
