"""SSDnet: anomaly localization in textures from the one image under test (arXiv 2509.18354).

>>> from ssdnet_core import localize  # doctest: +SKIP
>>> result = localize(image)  # doctest: +SKIP
>>> result.defective, result.anomaly_map, result.regions  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from ssdnet_core.config import Config
from ssdnet_core.errors import (
    DeviceUnavailableError,
    DivergedError,
    InvalidConfigError,
    InvalidImageError,
    SsdnetError,
)

if TYPE_CHECKING:
    from ssdnet_core.groups import localize_group
    from ssdnet_core.localization import Localization, enlarge_map, localize
    from ssdnet_core.regions import Region

__all__ = [
    "Config",
    "DeviceUnavailableError",
    "DivergedError",
    "InvalidConfigError",
    "InvalidImageError",
    "Localization",
    "Region",
    "SsdnetError",
    "enlarge_map",
    "localize",
    "localize_group",
]

_NEED_TORCH = {"Localization": "localization", "enlarge_map": "localization", "localize": "localization"}
_NEED_TORCH |= {"Region": "regions", "localize_group": "groups"}


def __getattr__(name: str) -> Any:
    # torch takes a second or two to import: a command line that only shows its help must not wait for it.
    if name in _NEED_TORCH:
        from importlib import import_module

        return getattr(import_module(f"ssdnet_core.{_NEED_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
