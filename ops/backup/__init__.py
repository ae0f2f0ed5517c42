"""Backup and restore of everything that a service has acknowledged, while it runs."""
