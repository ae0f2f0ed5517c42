"""Where the clients are installed, apart from our own packages."""

from pathlib import Path

import pytest

ENVIRONMENT = Path(__file__).parents[2] / ".venv-clients"
NEEDS_CLIENTS = pytest.mark.skipif(
    not (ENVIRONMENT / ".installed").exists(),
    reason="the clients are not installed: make test-clients",
)
