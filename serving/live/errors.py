"""Why a model that a client names cannot answer."""


class UnknownModel(LookupError):
    """No policy or version of that name."""


class VersionUnavailable(RuntimeError):
    """The version exists but cannot be loaded now."""
