"""All steps between preparation and verdict, for one image or many together: fit, blind reconstruction and scoring.

These are the steps that run on the device; :func:`ssdnet_core.localization.judged` is work for a processor, beside the
next group's fit.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssdnet_core.border_cost import border_cost, in_whole_context
from ssdnet_core.config import Config, ReconstructionConfig
from ssdnet_core.devices import callers_state_aside, resolve_device, resolve_precision, stacked_on
from ssdnet_core.fitting import fit
from ssdnet_core.homogeneity import unlikeness_of_parts
from ssdnet_core.likeness import likeness_to_defect
from ssdnet_core.preparation import Preparation, WorkingImage
from ssdnet_core.reconstruction import BlindNetwork
from ssdnet_core.restlessness import restlessness
from ssdnet_core.scoring import AlikeImages, Predicted, anomaly_map, settled_map, verdict_map
from ssdnet_core.tiles import reconstruct_in_tiles


@dataclass(frozen=True, eq=False)
class Findings:
    """What the device has found in an image, or with a leading axis in several.

    Attributes
    ----------
    scores, levels
        (h, w) each: the anomaly map, sharpened by :mod:`~ssdnet_core.likeness`, and its
        :func:`~ssdnet_core.scoring.verdict_map`, in which the regions are drawn.
    first_levels
        (h, w), the verdict map before sharpening: the law of false alarms was measured on it.
    background
        (h, w, C), the blind prediction, in the image's units.
    restless, unlikeness
        () each: the normal surface's :mod:`~ssdnet_core.restlessness`, and how unlike one another the image's parts are
        (:mod:`~ssdnet_core.homogeneity`).
    """

    scores: Tensor
    levels: Tensor
    first_levels: Tensor
    background: Tensor
    restless: Tensor
    unlikeness: Tensor

    def apart(self) -> "list[Findings]":
        """Return what was found in each image of a group, on the processor."""
        device = self.scores.device
        # Without blocking, torch copies into page-locked memory, which a GPU writes itself: a tenth of the time.
        here = [values.to("cpu", non_blocking=device.type == "cuda") for values in vars(self).values()]
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()
        return [Findings(*of_image) for of_image in zip(*here, strict=True)]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The findings in one image, on the processor, and what else the verdict must know.

    Attributes
    ----------
    findings
        Those of this image alone.
    area
        Number of working pixels that count.
    preparation
        That of the :class:`~ssdnet_core.preparation.WorkingImage`, whose pixels need not be kept.
    seconds
        CPU seconds of this process that the fit and the scores took; in a group, an equal share of them.
    """

    findings: Findings
    area: float
    preparation: Preparation
    seconds: float


@callers_state_aside()
def gather_evidence(group: Sequence[WorkingImage], config: Config) -> list[Evidence]:
    """Fit and score working images of one shape together; each gets the result that it would get alone."""
    started = time.process_time()
    scored = iter(_fitted_and_scored([working for working in group if not working.preparation.constant], config))
    found = [_unscored(working) if working.preparation.constant else next(scored) for working in group]
    seconds = (time.process_time() - started) / max(1, len(group))
    return [
        Evidence(of_image, area=float(working.valid.sum()), preparation=working.preparation, seconds=seconds)
        for working, of_image in zip(group, found, strict=True)
    ]


def _unscored(working: WorkingImage) -> Findings:
    nothing = torch.zeros_like(working.valid[0])
    (background,) = in_original_units(torch.zeros_like(working.pixels)[None], [working])
    one, zero = nothing.new_ones(()), nothing.new_zeros(())
    return Findings(nothing, nothing, nothing, background, restless=one, unlikeness=zero)


def _fitted_and_scored(group: Sequence[WorkingImage], config: Config) -> list[Findings]:
    device = resolve_device(config.device)
    if not group:
        return []
    dtype = resolve_precision(config.precision, device)
    pixels = stacked_on(device, [working.pixels for working in group])
    valid = torch.empty_like(pixels[:, :1])
    parts = _parts(group, pixels)
    for part in parts:
        valid[part.places] = part.images.valid
    background, prediction = _predictions(pixels, valid, config=config, dtype=dtype)
    found: dict[int, Findings] = {}
    for part in parts:
        predicted = Predicted(part.images, part.of_group(prediction))
        together = findings(
            predicted,
            scores=anomaly_map(predicted, config=config.score),
            background=in_original_units(part.of_group(background), part.working),
            config=config,
        )
        found.update(zip(part.places, together.apart(), strict=True))
    return [found[index] for index in range(len(group))]


def findings(predicted: Predicted, *, scores: Tensor, background: Tensor, config: Config) -> Findings:
    """Smooth and sharpen the scores (..., h, w) of images, and return what was found.

    ``background`` is that of :class:`Findings`.
    """
    valid = predicted.images.valid
    settled = settled_map(scores, valid)
    levels = first_levels = verdict_map(settled, valid)
    restless = restlessness(levels, valid)
    if config.score.likeness > 0:
        # Without a network nothing is explained, and the residual is the image once more.
        sources = (predicted.shown, predicted.residual) if config.fit.steps else (predicted.shown,)
        likeness = likeness_to_defect(sources, levels, valid=valid, restless=restless)
        settled = settled_map(scores, valid, likeness=config.score.likeness * likeness)
        levels = verdict_map(settled, valid)
    return Findings(
        scores=settled,
        levels=levels,
        first_levels=first_levels,
        background=background,
        restless=restless,
        unlikeness=unlikeness_of_parts(predicted.shown, valid),
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """The images of a group that count the same pixels, and so can be scored together.

    Attributes
    ----------
    places
        Theirs in the group, ascending.
    working
        As they were given.
    images
        The same on the device, to be scored.
    """

    places: list[int]
    working: list[WorkingImage]
    images: AlikeImages

    def of_group(self, values: Tensor) -> Tensor:
        """Return what of a group's values (G, ...) belongs to these images."""
        return _chosen(values, self.places)


def _parts(group: Sequence[WorkingImage], pixels: Tensor) -> list[_Part]:
    """Part a group by which pixels count; ``pixels`` (G, C, h, w) are the group's, on the device."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for index, working in enumerate(group):
        alike[np.packbits(working.valid.numpy() > 0).tobytes()].append(index)
    parts = []
    for places in alike.values():
        chosen = [group[index] for index in places]
        parts.append(_Part(places, chosen, images_together(chosen, _chosen(pixels, places))))
    return parts


def images_together(group: Sequence[WorkingImage], pixels: Tensor) -> AlikeImages:
    """Return working images in which the same pixels count, ready to be scored; ``pixels`` (G, C, h, w) are theirs."""
    device = pixels.device
    grey_level, averaged_level = (
        torch.tensor(levels, dtype=torch.float32)[:, None, None].to(device)
        for levels in zip(*((working.grey_level, working.averaged_level) for working in group), strict=True)
    )
    return AlikeImages(
        pixels,
        group[0].valid.to(device),
        grey_level=grey_level,
        averaged_level=averaged_level,
        contrast=stacked_on(device, [working.contrast for working in group]),
    )


def _chosen(values: Tensor, places: list[int]) -> Tensor:
    # Mostly all images are alike, and nothing need be copied.
    return values if len(places) == len(values) else values[places]


def _predictions(pixels: Tensor, valid: Tensor, *, config: Config, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Fit networks to a group of images, and return what :func:`blindly_predicted` does."""
    if config.fit.steps == 0:
        # Without a network nothing is known but the mean, which is 0.
        nothing = torch.zeros_like(pixels)
        return nothing, nothing
    blind = BlindNetwork.of(fit(pixels, valid, config=config, dtype=dtype), config.network)
    return blindly_predicted(blind, pixels, valid=valid, config=config.reconstruction)


def blindly_predicted(
    network: BlindNetwork, pixels: Tensor, *, valid: Tensor, config: ReconstructionConfig
) -> tuple[Tensor, Tensor]:
    """Return blind predictions of images (G, C, H, W): as they are, and, for scoring, corrected for borders."""
    prediction = reconstruct_in_tiles(network, pixels, valid=valid, config=config)
    cost = None
    if config.border_cost:
        cost = border_cost(network, pixels, valid=valid, prediction=prediction, config=config)
    if cost is None:
        return prediction, prediction
    return prediction, in_whole_context(prediction, pixels, valid=valid, cost=cost)


def in_original_units(backgrounds: Tensor, group: Sequence[WorkingImage]) -> Tensor:
    """Return standardised backgrounds (G, C, h, w) of a group in its images' own units: (G, h, w, C)."""
    shown = []
    for background, working in zip(backgrounds, group, strict=True):
        std, mean, falloff = (values.to(background) for values in (working.std, working.mean, working.falloff))
        shown.append(((background * std + mean) * falloff * working.full_range).permute(1, 2, 0))
    return torch.stack(shown)
