"""A Dask worker plugin: preparation and fit give a made map at once, so that all else can be measured."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
from distributed import WorkerPlugin

from ssdnet_core.config import Config
from ssdnet_core.working_size import working_shape

DEFECTIVE = 10
"""Every tenth image, more or less."""


class StubFit(WorkerPlugin):
    """Replaces the fit in a worker process."""

    def setup(self, worker: Any) -> None:
        """Run in the worker when it starts."""
        del worker
        from ssdnet_core import groups, localization

        localization.prepared = prepared
        groups.localize_prepared_group = localize_prepared_group


@dataclass(frozen=True)
class StubImage:
    """What is left of an image where nothing is fitted: its size, and a number to make its map from."""

    original_shape: tuple[int, int]
    mark: int


def prepared(image: np.ndarray, mask: np.ndarray | None, config: Config) -> StubImage:
    """Prepare nothing."""
    del mask, config
    height, width = image.shape[:2]
    return StubImage((height, width), mark=int(image[0].sum()))


def localize_prepared_group(working: Sequence[StubImage], config: Config, *, size: int | None = None) -> list[Any]:
    """Return a made result for each image."""
    del size
    return [made_result(image, config) for image in working]


def made_result(image: StubImage, config: Config) -> Any:
    """Return noise that compresses as badly as a real map, with a region in a tenth of the images."""
    from ssdnet_core.localization import Localization
    from ssdnet_core.regions import Region

    shape = working_shape(image.original_shape, working_size=config.working_size)
    mark = image.mark
    noise = np.random.default_rng(mark).standard_gamma(1.0, shape).astype(np.float32)
    defective = mark % DEFECTIVE == 0
    region = Region(top=2, left=2, bottom=9, right=12, area=60, peak=30.0, centroid=(5.0, 6.5))
    return Localization(
        working_map=noise,
        working_background=np.zeros((*shape, 1), dtype=np.float32),
        score=float(noise.max()),
        defective=defective,
        regions=(region,) if defective else (),
        original_shape=image.original_shape,
        seconds=0.0,
    )


# The workers do not have this folder on their path.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
