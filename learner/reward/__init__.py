"""Rewards: experience made of judged answers, and models of what people would think."""
