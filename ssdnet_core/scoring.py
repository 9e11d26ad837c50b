"""From an image and its blind reconstruction to the anomaly map: four scores, each over its own median, added.

No single score finds every defect (docs/METHOD.md has the table); each is normalised by medians of the image itself,
so that their sum, and one threshold for it, mean the same on every image.

Several images (..., C, H, W) that count the same pixels are scored together, each as it is alone: a graphics processor
is far from busy with one.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ssdnet_core.bands import Band, bands
from ssdnet_core.bulk import RIDGE, fit_bulk
from ssdnet_core.config import ScoreConfig
from ssdnet_core.filters import (
    DERIVATIVE_REACH,
    ENERGY_FLOOR,
    complete,
    effective_samples,
    energies,
    enlarge_squares,
    gaussian_derivatives,
    self_guided_smooth,
    share_of,
    shrink,
    weighted_shrink,
    weighted_smooth,
)
from ssdnet_core.medians import sampled, values_that_count
from ssdnet_core.robust import level_z, over_median, without_ring_excess, without_trend
from ssdnet_core.similarity import dissimilarity

GRID = 4
"""What is seen through wide windows is averaged over squares of this many working pixels first."""

VALUES_AT_A_TIME = 2**21
ENERGY_SCALES = (1, 2, 4, 8)
ENERGY_WINDOW = 8.0
ENERGY_SPREAD = 8.0
COLOUR_WINDOW = 4.0
COLOUR_SPREAD = 8.0
WHOLE_WINDOW = 0.95
"""Share of a window that must lie on pixels that count, for a mean that tells the surface's colour."""

COLOUR_RIDGE = 1e-3
"""Channels of a photograph differ far less than they vary together: a larger ridge hides stains that are a hue."""

PATTERN_SCALES = (1, 2)
PATTERN_WINDOW = 2.0
BULK_SAMPLE = 2**13
"""Pixels that tell a bulk's mean and covariance."""

SIMILARITY_SCALES = (1, 2, 4)
SIMILARITY_WINDOW = 6.0
SIMILARITY_SPREAD = 12.0
LEAST_SEEN = 0.25
"""Share of the pixels that count that a scale must see."""

SCORE_FLOOR = 1e-2
MAP_WINDOW = 8.0
MAP_CONTRAST = 0.1
"""Variance of the score's logarithm in a window above which an edge of the map is kept."""
VERDICT_WINDOW = 2.0


@dataclass(frozen=True, eq=False)
class OwnScores:
    """What images show without any prediction of them, (..., 1, h, w) each; None if its weight is 0.

    Attributes
    ----------
    energy
        Their :func:`local_energy`.
    colour
        Their :func:`local_colour`.
    """

    energy: Tensor | None
    colour: Tensor | None


def own_scores(image: Tensor, valid: Tensor, *, config: ScoreConfig) -> OwnScores:
    """Score images (..., C, H, W) by themselves."""
    return OwnScores(
        energy=local_energy(image, valid) if config.local_energy > 0 else None,
        colour=local_colour(image, valid) if config.local_colour > 0 else None,
    )


def anomaly_map(
    image: Tensor,
    prediction: Tensor,
    *,
    valid: Tensor,
    config: ScoreConfig,
    own: OwnScores | None = None,
    grey_level: Tensor | float = 0.0,
) -> Tensor:
    """Score every pixel: (..., H, W), at least 0, in robust standard deviations (the root of a sum of squares).

    Parameters
    ----------
    image, prediction
        (..., C, H, W), standardised; the prediction is blind.
    valid
        (1, H, W), 1.0 where a pixel counts. The others take the scores of their neighbourhood.
    config
        Weights of the components.
    own
        What :func:`own_scores` gives for the images, if it is known already and no pixel is missing: those that are
        take another value with each prediction.
    grey_level
        (..., 1, 1) or a number: what :func:`residual_pattern` takes.
    """
    image = fill_missing(image, prediction, valid=valid)
    own = own_scores(image, valid, config=config) if own is None else own
    residual = prediction - image
    share = share_of(valid, GRID)
    wide, total = _zeros(image, like=share), _zeros(image, like=valid)
    if own.energy is not None:
        energy = _over_median_in_window(own.energy + local_energy(residual, valid), share, window=ENERGY_WINDOW)
        wide += config.local_energy * weighted_smooth(energy, share, sigma=ENERGY_SPREAD / GRID)
    if own.colour is not None:
        colour = _over_median_in_window(own.colour, share, window=COLOUR_WINDOW)
        wide += config.local_colour * (colour + weighted_smooth(colour, share, sigma=COLOUR_SPREAD / GRID))
    if config.inner_product > 0:
        unlike = _over_median_in_window(inner_product(image, prediction, valid=valid), share, window=SIMILARITY_WINDOW)
        wide += config.inner_product * weighted_smooth(unlike, share, sigma=SIMILARITY_SPREAD / GRID)
    if config.residual_pattern > 0:
        pattern = over_median(residual_pattern(residual, valid, grey_level=grey_level), valid)
        total += config.residual_pattern * pattern * effective_samples(valid, PATTERN_WINDOW)
    total += enlarge_squares(wide, GRID, size=(valid.shape[-2], valid.shape[-1]))
    # A pixel that does not count takes the scores of its neighbourhood.
    if not complete(valid):
        total = torch.where(valid > 0, total, weighted_smooth(total, valid, sigma=PATTERN_WINDOW))
    return total[..., 0, :, :].sqrt()


def settled_map(scores: Tensor, valid: Tensor, *, likeness: Tensor | float = 0.0) -> Tensor:
    """Return anomaly maps (..., H, W) smoothed where they vary little, with the edges of what stands out kept.

    On the logarithm of its square, so that an edge is one at a faint defect as at a strong one.

    Parameters
    ----------
    likeness
        (..., H, W), added to that logarithm: :func:`ssdnet_core.likeness.likeness_to_defect`, below 0 where the image
        looks like the surface, and above where it looks even less like it than the mean of the defect that was found.
    """
    logs = ((scores.square() + SCORE_FLOOR).log() + likeness)[..., None, :, :]
    settled = self_guided_smooth(logs, valid, sigma=MAP_WINDOW, contrast=MAP_CONTRAST, grid=GRID)
    return (settled[..., 0, :, :] / 2).exp()


def _zeros(images: Tensor, *, like: Tensor) -> Tensor:
    return like.new_zeros((*images.shape[:-3], *like.shape))


def fill_missing(image: Tensor, prediction: Tensor, *, valid: Tensor) -> Tensor:
    """Return the image with what is missing filled by the prediction, less the residual's local mean."""
    if complete(valid):
        return image
    offset = weighted_smooth(prediction - image, valid, sigma=PATTERN_WINDOW)
    return torch.where(valid > 0, image, prediction - offset)


def _over_median_in_window(score: Tensor, share: Tensor, *, window: float) -> Tensor:
    """Return a score seen through a window over its median.

    Near the border a window holds fewer pixels: its score is noisier, and trusted less. As the square of a z-score,
    which passes through zero at every change of sign, it is mostly spread then: its local mean is what is unusual.
    """
    return over_median(score, share) * effective_samples(share, window / GRID)


def local_energy(values: Tensor, valid: Tensor) -> Tensor:
    """Return how unusual the strengths of the derivatives in a neighbourhood are: (..., 1, h, w), median 1 a scale.

    The logarithms of the Gaussian-averaged squared derivatives, each less its plane, as a robust Mahalanobis distance
    over derivatives and channels, which vary together on a surface; summed over four scales. h and w are H and W over
    4, rounded up.
    """
    share = share_of(valid, GRID)
    total = _zeros(values, like=share)
    for side, strength, counted in energies(values, valid, scales=ENERGY_SCALES, grid=GRID):
        if not _tells(counted, valid, side=side):
            continue
        unusual = _unusual(strength, counted, window=ENERGY_WINDOW / side)
        total += enlarge_squares(unusual, side // GRID, size=(share.shape[-2], share.shape[-1]))
    return total


def local_colour(image: Tensor, valid: Tensor) -> Tensor:
    """Return how unusual the mean colour of a neighbourhood is: (..., 1, h, w), median 1.

    Robust Mahalanobis distance over the channels, each less its trend of second degree, as light falls off towards the
    corners. Flat stains show here, and most of all those that are a hue, since the channels of a surface vary
    together. h and w are H and W over 4, rounded up.
    """
    share = share_of(valid, GRID)
    counted = (share > 0.5).float()
    if not _tells(share, valid, side=GRID):
        return _zeros(image, like=share)
    means = _mean_colours(image, valid, share=share)
    return _distance_over_median(level_z(means, counted, degree=2), counted, ridge=COLOUR_RIDGE)


def _mean_colours(image: Tensor, valid: Tensor, *, share: Tensor) -> Tensor:
    """Return the means seen through the window, (..., C, h, w); where it is cut off, those of whole ones beside it.

    On a regular texture a window that a border or a hole cuts off holds a part of a period, and the mean of that is no
    colour of the surface's.
    """
    sigma = COLOUR_WINDOW / GRID
    means = weighted_smooth(weighted_shrink(image, valid, factor=GRID), share, sigma=sigma)
    reach = math.ceil(3 * sigma)
    framed = functional.pad(share, (reach,) * 4)
    seen = weighted_smooth(framed, torch.ones_like(framed), sigma=sigma)[..., reach:-reach, reach:-reach]
    whole = ((share > 0.5) & (seen > WHOLE_WINDOW)).float()
    if not _tells(whole, valid, side=GRID):
        return means
    beside = weighted_smooth(whole, torch.ones_like(whole), sigma=sigma) > 1e-4
    return torch.where((whole == 0) & beside, weighted_smooth(means, whole, sigma=sigma), means)


def _unusual(values: Tensor, share: Tensor, *, window: float) -> Tensor:
    counted = (share > 0.5).float()
    levels = []
    # A few channels at a time where the image is large.
    for part in values.tensor_split(math.ceil(math.prod(values.shape[-3:]) / VALUES_AT_A_TIME), dim=-3):
        averaged = weighted_smooth(part, share, sigma=max(window, 2.0))
        levels.append(without_trend((averaged + ENERGY_FLOOR).log(), counted))
    return _distance_over_median(torch.cat(levels, dim=-3), counted)


def _distance_over_median(features: Tensor, counted: Tensor, *, ridge: float = RIDGE) -> Tensor:
    bulk = fit_bulk(sampled(values_that_count(features, counted), BULK_SAMPLE), ridge=ridge)
    distance = bulk.distance(features.flatten(-2)).view(*features.shape[:-3], *counted.shape)
    return over_median(distance, counted)


def _tells(share: Tensor, valid: Tensor, *, side: int) -> bool:
    """Whether enough of the pixels that count lie in squares of which more than half does.

    Where holes lie close, few squares are left at a scale, and their medians would tell of themselves.
    """
    return bool((share > 0.5).sum() * side**2 > LEAST_SEEN * valid.sum())


def residual_pattern(residual: Tensor, valid: Tensor, *, grey_level: Tensor | float = 0.0) -> Tensor:
    """Return how unusual the residual and its derivatives are together: (..., 1, H, W).

    Robust Mahalanobis distance, its logarithm smoothed, as a squared robust z-score. Two-sided, since a flat defect
    is predicted *too* well.

    Parameters
    ----------
    grey_level
        (..., 1, 1) or a number: one step of the image's values, in units of the residual. Differences of less are
        rounding, or what compression has left: without it the few blocks of a JPEG that keep a faint hue stand out
        from all others, which have none.
    """
    size = (residual.shape[-2], residual.shape[-1])
    total = _zeros(residual, like=valid)
    for scale in PATTERN_SCALES:
        share = share_of(valid, scale)
        if not _tells(share, valid, side=scale):
            continue
        counted = (share > 0.5).float()
        distance = _distance_from_bulk(shrink(residual, scale), counted, grey_level=grey_level)
        total += enlarge_squares(over_median(distance, counted).log1p(), scale, size=size)
    smoothed = without_ring_excess(weighted_smooth(total, valid, sigma=PATTERN_WINDOW), valid)
    return level_z(smoothed, valid).square()


def _distance_from_bulk(residual: Tensor, counted: Tensor, *, grey_level: Tensor | float) -> Tensor:
    height, width = residual.shape[-2:]
    parts = list(bands(height, width, reach=DERIVATIVE_REACH))
    rate = BULK_SAMPLE / max(BULK_SAMPLE, int(counted.sum()))
    # Of a single band, as most images are, they are kept; of several only the sample is, and they are computed twice.
    kept = _pattern(residual, parts[0]) if len(parts) == 1 else None
    drawn = []
    for band in parts:
        points = values_that_count(_pattern(residual, band) if kept is None else kept, counted[:, band.inner])
        drawn.append(sampled(points, math.ceil(rate * points.shape[-1])))
    bulk = fit_bulk(torch.cat(drawn, dim=-1), least=grey_level**2)
    patterns = (_pattern(residual, band) if kept is None else kept for band in parts)
    distance = torch.cat([bulk.distance(pattern.flatten(-2)) for pattern in patterns], dim=-1)
    return distance.view(*residual.shape[:-3], 1, height, width)


def _pattern(residual: Tensor, band: Band) -> Tensor:
    rows = residual[..., band.outer, :]
    return torch.cat([rows, gaussian_derivatives(rows)], dim=-3)[..., band.kept, :]


def inner_product(image: Tensor, prediction: Tensor, *, valid: Tensor) -> Tensor:
    """Return how unusually unlike image and prediction are in direction: (..., 1, h, w), at H and W over 4, rounded up.

    The paper's inner-product similarity as a score, over three scales.
    """
    share = share_of(valid, GRID)
    total = _zeros(image, like=share)
    for scale in SIMILARITY_SCALES:
        sigma = max(SIMILARITY_WINDOW / scale, 0.6)
        unlike = dissimilarity(image, prediction, valid=valid, scale=scale, sigma=sigma, grid=GRID // scale)
        total += (unlike + 1e-4).log()
    return level_z(without_ring_excess(total, share, grid=GRID), share).square()


def verdict_map(scores: Tensor, valid: Tensor) -> Tensor:
    """Return anomaly maps as the verdict reads them, (..., H, W): squares smoothed by 2 pixels, 0 where not valid."""
    squared = weighted_smooth(scores.square()[..., None, :, :], valid, sigma=VERDICT_WINDOW)
    return (squared * valid)[..., 0, :, :].sqrt()
