"""What can go wrong with the local stack."""

from ssdnet_core.errors import SsdnetError, UsageError


class LocalStackError(SsdnetError, RuntimeError):
    """The local stack cannot start, or cannot go on."""


class EndpointError(LocalStackError, UsageError):
    """Nothing can listen where it was asked for, on any machine."""
