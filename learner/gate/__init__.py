"""The gate: held-out tasks that a candidate must pass before it serves anyone."""
