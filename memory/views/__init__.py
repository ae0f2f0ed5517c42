"""Views: the messages of a session that fit a token budget."""
