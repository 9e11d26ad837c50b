"""A Dask preload: the worker's ``localize`` gives a made map at once, so that all but the fit can be measured."""

from typing import Any

import numpy as np

from ssdnet_core import localization
from ssdnet_core.config import Config
from ssdnet_core.localization import Localization
from ssdnet_core.regions import Region
from ssdnet_core.working_size import working_shape

DEFECTIVE = 10
"""Every tenth image, more or less."""


def dask_setup(worker: Any) -> None:
    """Replace the fit in this worker process."""
    del worker
    localization.localize = localize


def localize(image: np.ndarray, mask: np.ndarray | None = None, config: Config | None = None) -> Localization:
    """Return noise that compresses as badly as a real map, with a region in a tenth of the images."""
    del mask
    height, width = image.shape[:2]
    shape = working_shape((height, width), working_size=(config or Config()).working_size)
    noise = np.random.default_rng(int(image[0].sum())).standard_gamma(1.0, shape).astype(np.float32)
    defective = int(image[0].sum()) % DEFECTIVE == 0
    region = Region(top=2, left=2, bottom=9, right=12, area=60, peak=30.0, centroid=(5.0, 6.5))
    return Localization(
        working_map=noise,
        working_background=np.zeros((*shape, 1), dtype=np.float32),
        score=float(noise.max()),
        defective=defective,
        regions=(region,) if defective else (),
        original_shape=(height, width),
        seconds=0.0,
    )
