"""Runnable examples: `make example-<name>`. They use the service as a product would."""
