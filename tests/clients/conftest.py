"""The service's fixtures, for clients too."""

from tests.serving.conftest import serve, settings

__all__ = ["serve", "settings"]
