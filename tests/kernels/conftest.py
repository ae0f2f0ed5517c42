"""The native library for the tests that need it."""

import pytest
from burnish.kernels.cpu import library as native

from tests.conftest import missing


@pytest.fixture(scope="session")
def native_library() -> None:
    """Without a compiler its tests are skipped, or fail where CI=true."""
    if native.library() is None:
        missing("a C++ compiler")
