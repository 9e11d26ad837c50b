"""Errors a caller can act on: each message names the value, the reason and what to change."""


class SsdnetError(Exception):
    """Base of every error this project raises on purpose."""


class UsageError(SsdnetError):
    """What was asked for cannot be: settings, names or addresses are wrong, and the same command fails again."""


class InvalidImageError(SsdnetError, ValueError):
    """The image cannot be inspected: wrong shape, dtype, size or values."""


class InvalidConfigError(UsageError, ValueError):
    """A setting is out of its range, unknown, or does not fit the image."""


class DivergedError(SsdnetError, ArithmeticError):
    """A result is NaN or infinite: the fit diverged, or the device's arithmetic does not suffice."""


class DeviceUnavailableError(UsageError, RuntimeError):
    """The requested device does not exist on this machine."""
