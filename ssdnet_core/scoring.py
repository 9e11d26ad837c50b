"""From an image and its blind reconstruction to the anomaly map: four scores, each over its own median, added.

No single score finds every defect (docs/METHOD.md has the table); each is normalised by medians of the image itself,
so that their sum, and one threshold for it, mean the same on every image. Each grows with what is unusual, and has the
name of its weight in the settings: ``inner_product`` grows where image and prediction are unusually unlike, or alike.

Several images (..., C, H, W) in which the same pixels count are scored together, each as it would be alone: one image
does not keep a graphics processor busy.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ssdnet_core.config import ScoreConfig
from ssdnet_core.filters import (
    GRID,
    complete,
    effective_samples,
    enlarge_squares,
    filled,
    self_guided_smooth,
    share_of,
    weighted_smooth,
    zeros_for,
)
from ssdnet_core.light import LIGHT_DEGREE
from ssdnet_core.local_colour import COLOUR_WINDOW, local_colour
from ssdnet_core.local_energy import ENERGY_WINDOW, local_energy
from ssdnet_core.polynomial_trend import without_trend
from ssdnet_core.residual_pattern import PATTERN_WINDOW, residual_pattern
from ssdnet_core.robust import over_median
from ssdnet_core.similarity import SIMILARITY_WINDOW, inner_product

ENERGY_SPREAD, COLOUR_SPREAD, SIMILARITY_SPREAD = 8.0, 8.0, 12.0
"""Sigmas in pixels of the windows over which scores A, D and C are smoothed, after division by their medians."""

SCORE_FLOOR = 1e-2
"""Added to a squared score before its logarithm."""

MAP_WINDOW = 8.0
"""Sigma in pixels of the window over which the map is settled."""

MAP_CONTRAST = 0.1
"""Variance of the score's logarithm in a window above which an edge of the map is kept."""

VERDICT_WINDOW = 2.0
"""Sigma in pixels of the window over which the verdict reads the squared map."""


@dataclass(frozen=True, eq=False)
class AlikeImages:
    """Images that count the same pixels, and all that their scores depend on but the prediction.

    Attributes
    ----------
    pixels
        (..., C, H, W), standardised.
    valid
        (1, H, W), 1.0 where a pixel counts. The others take the scores of their neighbourhood.
    grey_level
        (..., 1, 1) or a number: what :func:`residual_pattern` takes.
    averaged_level
        The same for :func:`local_colour`, which looks at means.
    contrast
        (..., 1, H, W) or a number: what :func:`evenly_lit_residual` takes.
    """

    pixels: Tensor
    valid: Tensor
    grey_level: Tensor | float = 0.0
    averaged_level: Tensor | float = 0.0
    contrast: Tensor | float = 1.0


@dataclass(frozen=True, eq=False)
class Predicted:
    """Images and their predictions, and what follows of both: computed once, though looked at for score and likeness.

    Attributes
    ----------
    images
        Images that count the same pixels.
    prediction
        (..., C, H, W), standardised as the images are, and blind.
    """

    images: AlikeImages
    prediction: Tensor

    @cached_property
    def shown(self) -> Tensor:
        """The images with what is missing filled in: (..., C, H, W)."""
        return fill_missing(self.images.pixels, self.prediction, valid=self.images.valid)

    @cached_property
    def residual(self) -> Tensor:
        """What the prediction does not explain, as in even light: (..., C, H, W)."""
        images = self.images
        return evenly_lit_residual(self.shown, self.prediction, valid=images.valid, contrast=images.contrast)


def anomaly_map(predicted: Predicted, *, config: ScoreConfig) -> Tensor:
    """Score every pixel: (..., H, W), at least 0, in robust standard deviations (the root of a sum of squares).

    ``config`` has the weights of the components.
    """
    images, image, residual = predicted.images, predicted.shown, predicted.residual
    valid = images.valid
    share = share_of(valid, GRID)
    wide, total = zeros_for(image, like=share), zeros_for(image, like=valid)
    if config.local_energy > 0:
        energy = local_energy(image, valid) + local_energy(residual, valid)
        energy = _over_median_in_window(energy, share, window=ENERGY_WINDOW)
        wide += config.local_energy * weighted_smooth(energy, share, sigma=ENERGY_SPREAD / GRID)
    if config.local_colour > 0:
        colour = local_colour(image, valid, grey_level=images.averaged_level)
        colour = _over_median_in_window(colour, share, window=COLOUR_WINDOW)
        wide += config.local_colour * (colour + weighted_smooth(colour, share, sigma=COLOUR_SPREAD / GRID))
    if config.inner_product > 0:
        unlike = _over_median_in_window(
            inner_product(image, predicted.prediction, valid=valid), share, window=SIMILARITY_WINDOW
        )
        wide += config.inner_product * weighted_smooth(unlike, share, sigma=SIMILARITY_SPREAD / GRID)
    if config.residual_pattern > 0:
        pattern = over_median(residual_pattern(residual, valid, grey_level=images.grey_level), valid)
        total += config.residual_pattern * pattern * effective_samples(valid, PATTERN_WINDOW)
    total += enlarge_squares(wide, GRID, like=valid)
    # A pixel that does not count takes the scores of its neighbourhood.
    return filled(total, valid, sigma=PATTERN_WINDOW)[..., 0, :, :].sqrt()


def evenly_lit_residual(image: Tensor, prediction: Tensor, *, valid: Tensor, contrast: Tensor | float = 1.0) -> Tensor:
    """Return the prediction less the image, (..., C, H, W), as it were in even light. Not from the paper.

    The residual's robust trend, the part of the light that the network has missed, is subtracted: beside residuals that
    vary with a lamp's reflection those of a stain would not stand out. The rest is divided by ``contrast``, which the
    light gives the surface: (..., 1, H, W) or a number (:func:`ssdnet_core.light.contrast_in_light`).
    """
    return without_trend(prediction - image, valid, degree=LIGHT_DEGREE) / contrast


def settled_map(scores: Tensor, valid: Tensor, *, likeness: Tensor | float = 0.0) -> Tensor:
    """Return anomaly maps (..., H, W) smoothed where they vary little, with the edges of what stands out kept.

    The logarithm of the squared map is smoothed, so that the edges of faint defects are kept as those of strong ones.

    Parameters
    ----------
    likeness
        (..., H, W), added to that logarithm: :func:`ssdnet_core.likeness.likeness_to_defect`, below 0 where the image
        looks like the surface, and above where it looks even less like it than the mean of the defect that was found.
    """
    logs = ((scores.square() + SCORE_FLOOR).log() + likeness)[..., None, :, :]
    settled = self_guided_smooth(logs, valid, sigma=MAP_WINDOW, contrast=MAP_CONTRAST, grid=GRID)
    return (settled[..., 0, :, :] / 2).exp()


def fill_missing(image: Tensor, prediction: Tensor, *, valid: Tensor) -> Tensor:
    """Return images (..., C, H, W), what is missing filled by the prediction less the residual's local mean."""
    if complete(valid):
        return image
    offset = weighted_smooth(prediction - image, valid, sigma=PATTERN_WINDOW)
    return torch.where(valid > 0, image, prediction - offset)


def _over_median_in_window(score: Tensor, share: Tensor, *, window: float) -> Tensor:
    """Divide a score by its median, and weight it by how much of its window counts.

    Near the border a window holds fewer pixels: its score is noisier, and is weighted less. Most scores are smoothed
    after this: a squared z-score passes through zero at every change of sign, and only its local mean tells what is
    unusual.
    """
    return over_median(score, share) * effective_samples(share, window / GRID)


def verdict_map(scores: Tensor, valid: Tensor) -> Tensor:
    """Return anomaly maps as the verdict reads them, (..., H, W): 0 where not valid.

    Their squares are smoothed with a sigma of 2 pixels, and the root taken.
    """
    squared = weighted_smooth(scores.square()[..., None, :, :], valid, sigma=VERDICT_WINDOW)
    return (squared * valid)[..., 0, :, :].sqrt()
