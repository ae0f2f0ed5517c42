"""Learned compaction: worlds to practise in, a reader that keeps score, and training by reward."""
