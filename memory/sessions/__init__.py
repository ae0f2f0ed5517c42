"""Sessions: append-only logs of steps in Redis, with their pins, deletions and compaction plans."""
