"""The whole method on one image: prepare, fit, reconstruct blind, score, judge."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssdnet_core.config import Config
from ssdnet_core.devices import resolve_device, resolve_precision
from ssdnet_core.errors import InvalidConfigError
from ssdnet_core.filters import complete, enlarge
from ssdnet_core.fitting import fit
from ssdnet_core.homogeneity import SEVERAL_TEXTURES, unlikeness_of_parts
from ssdnet_core.network import stride
from ssdnet_core.preparation import WorkingImage, prepare
from ssdnet_core.regions import Region, find_regions
from ssdnet_core.restlessness import restlessness
from ssdnet_core.scoring import anomaly_map, image_energy, settled_map, verdict_map
from ssdnet_core.significance import alarm_level, significance
from ssdnet_core.tiles import reconstruct_in_tiles

SIDES = ("top", "bottom", "left", "right")


@dataclass(frozen=True, eq=False)
class Localization:
    """What SSDnet finds in one image.

    Attributes
    ----------
    working_map
        (h, w) float32, the anomaly map at working size: at least 0, in robust standard deviations of the image itself.
    working_background
        (h, w, C) float32, what the image's own structure explains, in the image's units.
    score
        -log10 of the number of false alarms expected at the image's highest peak: 1 means that one in ten images
        without a defect scores as high, 2 one in a hundred.
    defective
        Whether there is a region: a score of at least ``-log10(verdict.expected_false_alarms)``, over an area of at
        least ``verdict.min_area``.
    regions
        The defects, highest peak first; beside the first only those of at least ``verdict.min_further_area``.
    original_shape
        (H, W) of the image.
    seconds
        CPU seconds of this process that the localization took; in a group the mean.
    warnings
        What the reader of the result should know, for example that the image is constant.
    """

    working_map: npt.NDArray[np.float32]
    working_background: npt.NDArray[np.float32]
    score: float
    defective: bool
    regions: tuple[Region, ...]
    original_shape: tuple[int, int]
    seconds: float
    warnings: tuple[str, ...] = ()

    @cached_property
    def anomaly_map(self) -> npt.NDArray[np.float32]:
        """The anomaly map at the image's own size: (H, W) float32."""
        return enlarge_map(self.working_map, self.original_shape)

    @cached_property
    def background(self) -> npt.NDArray[np.float32]:
        """The normal background at the image's own size: (H, W) or (H, W, C) float32, in the image's units."""
        enlarged = enlarge(torch.from_numpy(self.working_background).permute(2, 0, 1), self.original_shape)
        background: npt.NDArray[np.float32] = enlarged.permute(1, 2, 0).numpy()
        return background[:, :, 0] if background.shape[2] == 1 else background


def localize(
    image: npt.NDArray[np.generic], mask: npt.NDArray[np.bool_] | None = None, config: Config | None = None
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
        If the settings are no :class:`Config`, or a masked block would fill the image.
    DeviceUnavailableError
        If ``config.device`` does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> from ssdnet_core import Config, localize
    >>> image = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    >>> localize(image, config=Config().updated({"fit.steps": 4})).anomaly_map.shape
    (64, 64)
    """
    config = config or Config()
    started = time.process_time()
    working = prepared(image, mask, config)
    (result,) = localize_prepared([working], config)
    return replace(result, seconds=time.process_time() - started)


def prepared(image: npt.NDArray[np.generic], mask: npt.NDArray[np.bool_] | None, config: Config) -> WorkingImage:
    """Check an image and its mask and bring them to the working size, as :func:`localize` does first.

    Raises
    ------
    InvalidImageError
        If the image or the mask cannot be inspected.
    InvalidConfigError
        If the settings are no :class:`Config`, or a masked block would fill the image.
    """
    if not isinstance(config, Config):
        raise InvalidConfigError(
            f"config is a {type(config).__name__}, no Config: pass Config().updated({{'fit.steps': 50}}), or "
            "ssdnet_core.config.parse_config(config) of nested dictionaries"
        )
    working = prepare(
        image,
        mask,
        working_size=config.working_size,
        border=config.border,
        leave_out_frame=config.leave_out_frame,
    )
    _check_block(config, working)
    return working


def localize_prepared(group: Sequence[WorkingImage], config: Config) -> list[Localization]:
    """Localize working images of one shape together: each as it is alone, its ``seconds`` an equal share."""
    started = time.process_time()
    scored = iter(_fit_and_score([working for working in group if not working.constant], config))
    results = [_judged(working, _unscored(working) if working.constant else next(scored), config) for working in group]
    seconds = (time.process_time() - started) / len(group)
    return [replace(result, seconds=seconds) for result in results]


@dataclass(frozen=True, eq=False)
class _Scored:
    """What the device has found in one image, or in several together.

    Attributes
    ----------
    scores, judged
        (..., h, w), the anomaly map, and as the verdict reads it.
    background
        (..., h, w, C), the blind prediction, in the image's units.
    restless, unlikeness
        (...), of the normal surface, and of the image's parts.
    """

    scores: Tensor
    judged: Tensor
    background: Tensor
    restless: Tensor
    unlikeness: Tensor

    def apart(self) -> "list[_Scored]":
        """Return what was found in each image of a group, on the processor."""
        return [_Scored(*of_image) for of_image in zip(*(values.cpu() for values in vars(self).values()), strict=True)]


def _unscored(working: WorkingImage) -> _Scored:
    nothing = torch.zeros_like(working.valid[0])
    (background,) = _in_original_units(torch.zeros_like(working.pixels)[None], [working])
    return _Scored(nothing, nothing, background, restless=torch.ones(()), unlikeness=torch.zeros(()))


def _judged(working: WorkingImage, found: _Scored, config: Config) -> Localization:
    judged, restless = found.judged.numpy(), float(found.restless)
    area = float(working.valid.sum())
    regions = find_regions(
        judged,
        alarm_level(config.verdict.expected_false_alarms, area=area, restless=restless),
        original_shape=working.original_shape,
        min_area=config.verdict.min_area,
        min_further_area=config.verdict.min_further_area,
    )
    return Localization(
        working_map=found.scores.numpy(),
        working_background=found.background.numpy(),
        score=significance(float(judged.max()), area=area, restless=restless),
        defective=bool(regions),
        regions=regions,
        original_shape=working.original_shape,
        seconds=0.0,
        warnings=_warnings(working, unlikeness=float(found.unlikeness)),
    )


def _warnings(working: WorkingImage, *, unlikeness: float) -> tuple[str, ...]:
    found = []
    if working.constant:
        found.append("the image is constant: there is no structure to compare with")
    elif unlikeness > SEVERAL_TEXTURES:
        found.append(
            f"not one texture: its parts lie {unlikeness:.1f} spreads apart, one texture's at most {SEVERAL_TEXTURES}; "
            "mask what is not the surface"
        )
    if any(working.frame):
        sides = ", ".join(f"{width} {side}" for side, width in zip(SIDES, working.frame, strict=True) if width)
        found.append(f"a frame was left out, in working pixels: {sides}")
    return tuple(found)


def enlarge_map(working_map: npt.NDArray[np.floating], original_shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Bring an anomaly map from the working size (h, w) to the image's own size (H, W): float32, bilinear."""
    working = torch.from_numpy(np.ascontiguousarray(working_map, dtype=np.float32))
    enlarged: npt.NDArray[np.float32] = enlarge(working[None], original_shape)[0].numpy()
    return enlarged


def _check_block(config: Config, working: WorkingImage) -> None:
    height, width = working.valid.shape[-2:]
    block = config.reconstruction.block
    if 2 * block > min(height, width):
        raise InvalidConfigError(
            f"a masked block of {block} leaves no context in {height} x {width} working pixels: "
            f"set reconstruction.block <= {min(height, width) // 2}"
        )


def _fit_and_score(group: Sequence[WorkingImage], config: Config) -> list[_Scored]:
    if not group:
        return []
    device = resolve_device(config.device)
    dtype = resolve_precision(config.precision, device)
    alike = _alike(group)
    pixels = torch.stack([working.pixels.to(device) for working in group])
    counted = [group[images[0]].valid.to(device) for images in alike]
    valid = torch.empty_like(pixels[:, :1])
    for images, flags in zip(alike, counted, strict=True):
        valid[images] = flags
    energies = [_own_energy(pixels[images], flags, config) for images, flags in zip(alike, counted, strict=True)]
    fused = torch.zeros_like(valid[:, 0])
    predictions = torch.zeros_like(pixels)
    for predictions in _predictions(pixels, valid, config, dtype=dtype):
        for images, flags, energy in zip(alike, counted, energies, strict=True):
            scores = anomaly_map(pixels[images], predictions[images], flags, config=config.score, own_energy=energy)
            # Early and late networks know different defects: the higher score of each pixel counts.
            fused[images] = torch.maximum(fused[images], scores)
    found: dict[int, _Scored] = {}
    for images, flags in zip(alike, counted, strict=True):
        settled = settled_map(fused[images], flags)
        judged = verdict_map(settled, flags)
        together = _Scored(
            scores=settled,
            judged=judged,
            background=_in_original_units(predictions[images], [group[index] for index in images]),
            restless=restlessness(judged, flags),
            unlikeness=unlikeness_of_parts(pixels[images], flags),
        )
        found.update(zip(images, together.apart(), strict=True))
    return [found[index] for index in range(len(group))]


def _alike(group: Sequence[WorkingImage]) -> list[list[int]]:
    """Return which images count the same pixels, and so can be scored together."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for index, working in enumerate(group):
        alike[np.packbits(working.valid.numpy() > 0).tobytes()].append(index)
    return list(alike.values())


def _predictions(pixels: Tensor, valid: Tensor, config: Config, *, dtype: torch.dtype) -> Iterator[Tensor]:
    if config.fit.steps == 0:
        # Without a network nothing is known but the mean, which is 0.
        yield torch.zeros_like(pixels)
    for _, networks in fit(pixels, valid, config, dtype=dtype):
        yield reconstruct_in_tiles(
            networks, pixels, valid, config=config.reconstruction, multiple=stride(config.network), dtype=dtype
        )


def _own_energy(pixels: Tensor, valid: Tensor, config: Config) -> Tensor | None:
    # Where pixels are missing they are filled by each prediction anew.
    return image_energy(pixels, valid) if config.score.local_energy > 0 and complete(valid) else None


def _in_original_units(backgrounds: Tensor, group: Sequence[WorkingImage]) -> Tensor:
    mean = torch.stack([working.mean for working in group]).to(backgrounds)
    std, white = (
        torch.tensor([float(value) for value in values])[:, None, None, None].to(backgrounds)
        for values in zip(*((working.std, working.full_range) for working in group), strict=True)
    )
    return ((backgrounds * std + mean) * white).permute(0, 2, 3, 1).contiguous()
