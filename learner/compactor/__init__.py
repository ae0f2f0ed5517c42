"""Training the compaction policy: simulated worlds, a reader that answers from views, imitation,
reinforcement, and updates from the feedback on real sessions."""
