"""The reward model: what people would think of an answer, learnt from what they said of others.

The learner fits it (learner/reward/fitting.py) and trains policies on it; serving chooses among answers
by it. Left out: fitting, which only the learner does.
"""
