"""A Dask worker plugin: preparation and fit give a made map at once, so that all else can be measured."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
from distributed import WorkerPlugin

from ssdnet_core.config import Config
from ssdnet_core.working_size import working_shape

if TYPE_CHECKING:
    from ssdnet_core.preparation import Preparation

DEFECTIVE = 10
"""About every tenth image is called defective."""


class StubFit(WorkerPlugin):
    """Replaces the fit in a worker process."""

    def setup(self, worker: Any) -> None:
        """Run in the worker when it starts."""
        del worker
        from ssdnet_core import groups, preparation

        preparation.prepare = prepare  # type: ignore[assignment]
        groups.evidence_of_group = evidence_of_group  # type: ignore[assignment]


@dataclass(frozen=True)
class StubImage:
    """What is kept of an image where nothing is fitted: its size, and a number to make its map from."""

    preparation: "Preparation"
    mark: int


def prepare(image: np.ndarray, mask: np.ndarray | None, *, config: Config) -> StubImage:
    """Prepare nothing."""
    from ssdnet_core.preparation import Preparation
    from ssdnet_core.small_region import Box

    del mask
    size = (image.shape[0], image.shape[1])
    box = Box.whole(working_shape(size, working_size=config.working_size))
    return StubImage(Preparation(size, box), mark=int(image[0].sum()))


def evidence_of_group(working: Sequence[StubImage], config: Config, *, size: int | None = None) -> list[Any]:
    """Return made evidence of each image."""
    del config, size
    return [made_evidence(image) for image in working]


def made_evidence(image: StubImage) -> Any:
    """Return noise that compresses as badly as a real map, with a region in a tenth of the images."""
    import torch

    from ssdnet_core.evidence import Evidence, Findings

    shape = image.preparation.box.size
    noise = np.random.default_rng(image.mark).standard_gamma(1.0, shape).astype(np.float32)
    levels = torch.zeros(shape)
    if image.mark % DEFECTIVE == 0:
        levels[2:9, 2:12] = 30.0
    findings = Findings(
        scores=torch.from_numpy(noise),
        levels=levels,
        first_levels=levels,
        background=torch.zeros((*shape, 1)),
        restless=torch.ones(()),
        unlikeness=torch.zeros(()),
    )
    return Evidence(
        findings,
        area=float(shape[0] * shape[1]),
        preparation=image.preparation,
        seconds=0.0,
    )


# The workers do not have this folder on their path.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
