"""The experience database's schema, version by version (Alembic)."""
