"""Intake: from the stream into the database, judgements joined to their answers."""
