"""What can go wrong with the local stack."""

from ssdnet_core.errors import SsdnetError


class LocalStackError(SsdnetError, RuntimeError):
    """The local stack cannot start, or cannot go on."""
