"""Compaction policies behind one interface (`base.py`)."""
