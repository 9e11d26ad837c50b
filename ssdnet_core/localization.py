"""The whole method on one image: prepare, fit, reconstruct blind, score, judge."""

import math
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from ssdnet_core.caveats import caveats
from ssdnet_core.config import Config
from ssdnet_core.errors import DivergedError
from ssdnet_core.evidence import Evidence, Findings, gather_evidence
from ssdnet_core.filters import enlarge
from ssdnet_core.preparation import prepare
from ssdnet_core.regions import Region, enlarge_labels, find_regions, label_regions
from ssdnet_core.significance import alarm_level, significance


@dataclass(frozen=True, eq=False)
class Localization:
    """What SSDnet finds in one image.

    Attributes
    ----------
    working_map
        (h, w) float32, the anomaly map at working size: at least 0, in robust standard deviations of the image itself;
        0 beyond the box around what counts, if that is at most half of the image.
    working_background
        (h, w, C) float32, what the image's own structure explains, in the image's units; beyond that box its mean.
    score
        -log10 of the number of false alarms expected at the image's highest peak, before the map is sharpened: 1 means
        that one in ten images without a defect scores as high, 2 one in a hundred. At most 100; below 0 where more than
        one false alarm is to be expected.
    defective
        Whether there is a region: the score is at least ``-log10(verdict.expected_false_alarms)``, and in the sharpened
        map a region of at least ``verdict.min_area`` is left.
    regions
        The defects, highest peak first: all of at least ``verdict.min_area``, and beside the first only those of at
        least ``verdict.min_further_area`` that reached the alarm level before the map was sharpened, too.
    working_labels
        (h, w) int32, which of the regions each pixel is in at working size: 1 for the first of them, 0 for none.
    regions_from
        The level of :func:`~ssdnet_core.scoring.verdict_map` that regions reach down to at most, if there is an alarm
        at all; where the map is high they end at ``verdict.share_of_peak`` of its highest value.
    original_shape
        (H, W) of the image.
    seconds
        CPU seconds: those of the calling thread for preparing and judging this image, and those of the whole process,
        other threads included, for fit and scores. Images fitted as a group have equal shares of the latter.
    warnings
        What the reader of the result should know, for example that the image is constant.
    """

    working_map: npt.NDArray[np.float32]
    working_background: npt.NDArray[np.float32]
    score: float
    defective: bool
    regions: tuple[Region, ...]
    working_labels: npt.NDArray[np.int32]
    regions_from: float
    original_shape: tuple[int, int]
    seconds: float
    warnings: tuple[str, ...] = ()

    @cached_property
    def anomaly_map(self) -> npt.NDArray[np.float32]:
        """The anomaly map at the image's own size: (H, W) float32."""
        return enlarge_map(self.working_map, self.original_shape)

    @cached_property
    def labels(self) -> npt.NDArray[np.int32]:
        """Which of the regions each pixel of the image is in, 1 for the first of them, 0 for none: (H, W) int32."""
        return enlarge_labels(self.working_labels, self.original_shape)

    @cached_property
    def background(self) -> npt.NDArray[np.float32]:
        """The normal background at the image's own size: (H, W) or (H, W, C) float32, in the image's units."""
        enlarged = enlarge(torch.from_numpy(self.working_background.copy()).permute(2, 0, 1), self.original_shape)
        background = enlarged.permute(1, 2, 0).numpy()
        return background[:, :, 0] if background.shape[2] == 1 else background


def localize(
    image: npt.NDArray[np.generic], mask: npt.NDArray[np.bool_] | None = None, *, config: Config | None = None
) -> Localization:
    """Find what an image's own structure cannot explain.

    SSDnet (arXiv 2509.18354): a small convolutional network is fitted to this one image from corrupted crops of
    it; every pixel is then predicted without sight of its own block, and image and prediction are compared.
    No training data, no labels, no pretrained weights.

    Parameters
    ----------
    image
        (H, W), (H, W, 1) or (H, W, 3); uint8, uint16, float32 or float64; both sides at least 32 pixels.
    mask
        (H, W) bool, True where a pixel does not count: missing, or outside the region of interest.
        Masked values have no influence on the result.
    config
        Settings; ``Config()`` if left out.

    Returns
    -------
    Localization
        The same for the same image, mask, configuration, device and number of torch threads.

    Raises
    ------
    InvalidImageError
        If the image or the mask cannot be inspected.
    InvalidConfigError
        If the settings are no :class:`Config`, or a masked block would leave no context.
    DeviceUnavailableError
        If ``config.device`` does not exist.
    DivergedError
        If what came of the image is no number.

    Examples
    --------
    >>> import numpy as np
    >>> from ssdnet_core import Config, localize
    >>> image = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    >>> localize(image, config=Config().updated({"fit.steps": 4})).anomaly_map.shape
    (64, 64)
    """
    config = Config() if config is None else config
    (evidence,) = gather_evidence([prepare(image, mask, config=config)], config)
    return judged(evidence, config)


def judged(evidence: Evidence, config: Config) -> Localization:
    """Judge what was found in an image: its regions, its score and the warnings.

    Raises
    ------
    DivergedError
        If the map's peak, the map or the background is no number.
    """
    started = time.thread_time()
    found, preparation = evidence.findings, evidence.preparation
    _check_numbers(found)
    box, background = preparation.box, found.background.numpy()
    # Copies: a view would keep the whole group's results alive, in memory that cannot be swapped out.
    scores, levels = (box.paste(values.numpy(), beyond=0.0) for values in (found.scores, found.levels))
    peak, restless = float(found.first_levels.max()), float(found.restless)
    alarm = alarm_level(config.verdict.expected_false_alarms, area=evidence.area, restless=restless)
    alarmed = peak >= alarm
    # Sharpening may have lowered the map's peak below the alarm level: an alarm has a region all the same.
    regions_from = min(alarm, float(levels.max())) if alarmed else alarm
    labels = np.zeros(levels.shape, dtype=np.int32)
    if alarmed:
        labels = label_regions(
            levels,
            regions_from,
            original_shape=preparation.original_shape,
            anomaly_map=scores,
            alarming=box.paste((found.first_levels >= alarm).numpy(), beyond=False),
            config=config.verdict,
        )
    regions = find_regions(levels, labels, original_shape=preparation.original_shape)
    return Localization(
        working_map=scores,
        working_background=box.paste(background, beyond=background.mean((0, 1))),
        score=significance(peak, area=evidence.area, restless=restless),
        defective=bool(regions),
        regions=regions,
        working_labels=labels,
        regions_from=regions_from,
        original_shape=preparation.original_shape,
        warnings=caveats(preparation, unlikeness=float(found.unlikeness)),
        seconds=preparation.seconds + evidence.seconds + time.thread_time() - started,
    )


def _check_numbers(found: Findings) -> None:
    # NaN lies above no alarm level, yet would become the highest score. The peak alone does not tell whether the fit
    # diverged: scores that see only the image have one whatever the network predicts.
    numbers = {
        "the anomaly map's peak": found.first_levels,
        "a value of the anomaly map": found.scores,
        "a value of the background": found.background,
    }
    for name, values in numbers.items():
        # Minimum and maximum are NaN if any value is; flags for every pixel of a large image are not needed.
        strange = [extreme for extreme in map(float, values.aminmax()) if not math.isfinite(extreme)]
        if strange:
            raise DivergedError(
                f"{name} is {strange[0]}, as after a fit that diverged: set another seed, precision=float32 or "
                "device=cpu"
            )


def enlarge_map(working_map: npt.NDArray[np.floating], original_shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Bring an anomaly map from the working size (h, w) to the image's own size (H, W): float32, bilinear."""
    # A copy: an image at its working size is not enlarged, and the caller may write into what comes back.
    working = torch.from_numpy(np.array(working_map, dtype=np.float32, order="C"))
    return enlarge(working[None], original_shape)[0].numpy()
