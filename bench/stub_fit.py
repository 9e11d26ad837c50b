"""A Dask worker plugin: the worker's ``localize`` gives a made map at once, so that all but the fit can be measured."""

import sys
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
        from ssdnet_core import localization

        localization.localize = localize


def localize(image: np.ndarray, mask: np.ndarray | None = None, config: Config | None = None) -> Any:
    """Return noise that compresses as badly as a real map, with a region in a tenth of the images."""
    from ssdnet_core.localization import Localization
    from ssdnet_core.regions import Region

    del mask
    height, width = image.shape[:2]
    shape = working_shape((height, width), working_size=(config or Config()).working_size)
    mark = int(image[0].sum())
    noise = np.random.default_rng(mark).standard_gamma(1.0, shape).astype(np.float32)
    defective = mark % DEFECTIVE == 0
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


# The workers do not have this folder on their path.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
