"""Serving: the HTTP tier, from a request to tokens, from an alias to served weights."""
