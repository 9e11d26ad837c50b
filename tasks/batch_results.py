"""What a batch came to: its images with their records, and both summed up."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tasks.manifest import Manifest
from tasks.records import ImageRecord

SCORE_QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90, 0.99)
"""Probabilities; the trends have the same, so that a batch's summary can be laid beside them."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A batch in figures.

    Attributes
    ----------
    images, inspected, failed, defective
        Counts.
    defect_rate
        Defective over inspected; NaN if none was inspected.
    warned
        Number of inspected images with a warning, as of one that is constant or not one texture.
    masked
        Number of images with a mask beside them; the others are inspected whole.
    regions
        Number of defect regions.
    score_quantiles
        Quantiles of the inspected images' scores, by probability.
    fit_seconds
        Sum of the localizations' CPU seconds.
    """

    images: int
    inspected: int
    failed: int
    defective: int
    defect_rate: float
    warned: int
    masked: int
    regions: int
    score_quantiles: Mapping[str, float]
    fit_seconds: float


@dataclass(frozen=True)
class BatchResults:
    """What a batch came to: its manifest, and the record of each of its images, by index."""

    manifest: Manifest
    records: Mapping[int, ImageRecord]

    @cached_property
    def present(self) -> tuple[ImageRecord, ...]:
        """The records of the images that the last listing had, in the order of the manifest; each must have one."""
        return tuple(self.records[entry.index] for entry in self.manifest.present)

    @cached_property
    def failed(self) -> tuple[ImageRecord, ...]:
        """Records of present images that failed."""
        return tuple(record for record in self.present if record.failed)

    @cached_property
    def warned(self) -> tuple[ImageRecord, ...]:
        """Records of present images with warnings."""
        return tuple(record for record in self.present if record.warnings)

    @cached_property
    def summary(self) -> Summary:
        """The images that the last listing had, summed up."""
        inspected = [record for record in self.present if record.inspected]
        defective = sum(record.defective for record in inspected)
        scores = np.array([record.score for record in inspected])
        return Summary(
            images=len(self.present),
            inspected=len(inspected),
            failed=len(self.failed),
            defective=defective,
            defect_rate=defective / len(inspected) if inspected else float("nan"),
            warned=len(self.warned),
            masked=sum(bool(entry.mask) for entry in self.manifest.present),
            regions=sum(len(record.regions) for record in inspected),
            score_quantiles={f"{q:g}": float(np.quantile(scores, q)) for q in SCORE_QUANTILES} if inspected else {},
            fit_seconds=sum(record.seconds for record in inspected),
        )
