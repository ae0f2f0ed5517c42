"""Policy versions: registered, promoted, rolled back and fetched, over MLflow's model registry.

`PolicyRegistry` is the registry, `StubRegistry` the same in memory, for tests. Importing this package
does not import MLflow; the first call does.
"""

from burnish.serving.registry.canaries import LARGEST_SHARE, Canaries, Canary
from burnish.serving.registry.errors import (
    BaseMismatch,
    HashMismatch,
    NoCanary,
    NothingToRollBack,
    NotSigned,
    RegistryError,
    UnknownVersion,
)
from burnish.serving.registry.policy_registry import PolicyRegistry, prepare
from burnish.serving.registry.signatures import signing_keys
from burnish.serving.registry.stub import StubRegistry
from burnish.serving.registry.versions import (
    ADAPTER_FILES,
    BASE_VERSION,
    Move,
    Pause,
    PolicyVersion,
    adapter_sha256,
)

__all__ = [
    "ADAPTER_FILES",
    "BASE_VERSION",
    "LARGEST_SHARE",
    "BaseMismatch",
    "Canaries",
    "Canary",
    "HashMismatch",
    "Move",
    "NoCanary",
    "NotSigned",
    "NothingToRollBack",
    "Pause",
    "PolicyRegistry",
    "PolicyVersion",
    "RegistryError",
    "StubRegistry",
    "UnknownVersion",
    "adapter_sha256",
    "prepare",
    "signing_keys",
]
