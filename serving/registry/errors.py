"""What the registry raises.

RegistryError (RuntimeError)     the registry cannot be reached or its answer is unusable; try again
├── UnknownVersion (LookupError)
├── NothingToRollBack
├── NoCanary
├── BaseMismatch (ValueError)    the policy belongs to another base model
├── HashMismatch (ValueError)    an adapter is not the one that was registered
├── NotOurs                      a version that was not registered through us
└── NotSigned                    nobody who may has vouched for the version
"""


class RegistryError(RuntimeError):
    """The registry cannot be reached or its answer is unusable; what is loaded is still served."""


class UnknownVersion(RegistryError, LookupError):
    """No such policy, version or alias."""


class NothingToRollBack(RegistryError):
    """No version was champion before this one."""


class NoCanary(RegistryError):
    """No version is tried on a share of users now."""


class BaseMismatch(RegistryError, ValueError):
    """The policy's adapters belong to another base model than the one loaded."""


class HashMismatch(RegistryError, ValueError):
    """The adapter's files are not the ones that were registered."""


class NotOurs(RegistryError):
    """The version was not registered through us: its tags cannot be read."""


class NotSigned(RegistryError):
    """Neither the learner nor `burnish sign` has signed this version as it is now."""
