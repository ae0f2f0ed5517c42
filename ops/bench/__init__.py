"""Benches that show what the service promises; each is a module run with `python -m`."""
