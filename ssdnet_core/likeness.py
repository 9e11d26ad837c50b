"""Where else an image looks like the defect that was found in it: what sharpens the anomaly map.

Windows make the map wider than a defect, and hardly reach its ends where the defect is faint. Once a first map is sure
of some pixels, these and the rest are two classes, and the image itself tells what sets them apart: a linear
discriminant (Fisher, Annals of Eugenics 1936) in its own features. Not from the paper. Scores and alarms are the first
map's.

What looks like the surface is lowered; what looks even less like it than the defect's mean is raised. Each square of
pixels counts as defect with a weight from 0 to 1. Faint squares weigh next to nothing each, but at 256 x 256 as much as
4 to 16 sure ones together. Keeping them helps (average precision .8129, not .8106 to .8119; under noise .7545, not
.7456 to .7507): where little is sure, they bring the means of defect and surface closer together.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from ssdnet_core.derivatives import DERIVATIVES, ENERGY_FLOOR, energies
from ssdnet_core.devices import in_double
from ssdnet_core.filters import enlarge_squares, share_of, weighted_shrink, weighted_smooth
from ssdnet_core.medians import sampled, values_that_count
from ssdnet_core.significance import alarm_level

SURE_FALSE_ALARMS = 0.01
"""Expected false alarms at the level of the map at which a square belongs to the defect with a weight of one half; far
above that level the weight is 1."""

USUAL_FALSE_ALARMS = 1.0
"""Expected false alarms at the level below which a square is taken for the surface. An image whose map nowhere reaches
that level is left as it is."""

SOFTNESS = 0.3
"""Width of the weight's passage from 0 to 1, in the logarithm of the map's square: wide enough to give the surface's
highest squares a little weight."""

HALF_EFFECT = 5.0
"""Total weight of the defect's squares at which the likeness has half of its full effect. The surface's faint squares
are part of that total: with them, at 256 x 256, a single sure square has .5 to .8 of the full effect."""

MOST_LIKENESS = 1.0
"""Largest likeness, as far above the defect's mean as the surface's mean lies below it, so that a few pixels do not
outshine the rest of the defect. It raises the map by a factor of the root of e at most."""

LIKENESS_GRID = 2
LIKENESS_SCALES = (1, 2, 4)
LIKENESS_ENERGY_WINDOW, LIKENESS_COLOUR_WINDOW, LIKENESS_WINDOW = 2.5, 1.5, 2.0
"""Sigmas in pixels of the windows over which the features are averaged, and the likeness itself; of energies at the
coarsest scale 2.8."""

LIKENESS_RIDGE = 0.03
"""Added to the diagonal of the features' correlation."""

LIKENESS_SAMPLE = 2**14
"""Number of squares from which the surface's mean and covariance are estimated."""


def likeness_to_defect(sources: Iterable[Tensor], levels: Tensor, *, valid: Tensor, restless: Tensor) -> Tensor:
    """Return how much each pixel looks like what was found in its image: (..., H, W), -1 to 1.

    0 is the mean of the defect; -1 is the mean of the normal surface, and whatever looks even less like the defect;
    pixels above 0 look even less like the surface than the defect's mean does. The smaller the total weight of what was
    found, the nearer to 0 all values are; in an image in which nothing was found they are 0.

    Parameters
    ----------
    sources
        (..., C, H, W) each, what the features are taken from: the images, and their residuals if there are any.
    levels
        (..., H, W), :func:`ssdnet_core.scoring.verdict_map`.
    valid
        (1, H, W), 1.0 where a pixel counts.
    restless
        (...), the images' :func:`~ssdnet_core.restlessness.restlessness`.
    """
    share = share_of(valid, LIKENESS_GRID)
    counted = (share > 0.5).float()
    unrest = restless[..., None, None, None]
    relative = weighted_shrink(levels[..., None, :, :], valid, factor=LIKENESS_GRID) / unrest
    sure_from, usual_below = (
        alarm_level(expected, area=float(valid.sum())) for expected in (SURE_FALSE_ALARMS, USUAL_FALSE_ALARMS)
    )
    sure = counted * torch.sigmoid(2 / SOFTNESS * (relative / sure_from).clamp_min(1e-6).log())
    count = sure.sum((-3, -2, -1), keepdim=True)
    suspect = levels.amax((-2, -1))[..., None, None, None] >= usual_below * unrest
    certain = torch.where(suspect, count / (count + HALF_EFFECT), 0.0)
    if not bool(certain.any()):
        return torch.zeros_like(levels)
    features = torch.cat([part for source in sources for part in features_of(source, valid)], dim=-3)
    usual = counted * (relative < usual_below)
    along = discriminant(features, counted, usual=usual, sure=sure)
    likeness = (weighted_smooth(along, share, sigma=LIKENESS_WINDOW / LIKENESS_GRID) - 1.0).clamp(-1.0, MOST_LIKENESS)
    return enlarge_squares(certain * likeness, LIKENESS_GRID, like=valid)[..., 0, :, :]


def features_of(source: Tensor, valid: Tensor) -> Iterable[Tensor]:
    """Yield the mean colour and the logarithms of the local energies of narrow windows: (..., N, h, w) each."""
    share = share_of(valid, LIKENESS_GRID)
    yield weighted_smooth(
        weighted_shrink(source, valid, factor=LIKENESS_GRID), share, sigma=LIKENESS_COLOUR_WINDOW / LIKENESS_GRID
    )
    for side, strength, counted in energies(source, valid, scales=LIKENESS_SCALES, grid=LIKENESS_GRID):
        by_channel = strength.view(*strength.shape[:-3], -1, DERIVATIVES, *strength.shape[-2:])
        energy = (
            weighted_smooth(by_channel.mean(-4), counted, sigma=max(LIKENESS_ENERGY_WINDOW / side, 0.7)) + ENERGY_FLOOR
        ).log()
        yield enlarge_squares(energy, side // LIKENESS_GRID, like=share)


def discriminant(features: Tensor, counted: Tensor, *, usual: Tensor, sure: Tensor) -> Tensor:
    """Return Fisher's discriminant: (..., 1, h, w), 0 at the mean of what is usual and 1 at that of what is sure.

    ``features`` is (..., N, h, w), the weights of both classes are (..., 1, h, w).
    """
    points = features.flatten(-2)
    of_defect = _mean(points, sure.flatten(-2))
    # Both draws take the same squares.
    drawn, weight = (sampled(values_that_count(values, counted), LIKENESS_SAMPLE) for values in (features, usual))
    of_surface = _mean(drawn, weight)
    centred = (drawn - of_surface) * weight
    covariance = centred @ centred.mT / weight.sum(-1, keepdim=True).clamp_min(1.0)
    spread = covariance.diagonal(dim1=-2, dim2=-1)[..., None].clamp_min(1e-6).sqrt()
    diagonal = torch.eye(spread.shape[-2], dtype=spread.dtype, device=spread.device)
    correlation = covariance / (spread * spread.mT) + LIKENESS_RIDGE * diagonal
    apart = of_defect - of_surface
    direction = torch.linalg.solve_ex(in_double(correlation), in_double(apart / spread)).result.to(apart) / spread
    along = direction.mT @ points - direction.mT @ of_surface
    return (along / (direction.mT @ apart).clamp_min(1e-6)).view(usual.shape)


def _mean(points: Tensor, weight: Tensor) -> Tensor:
    return points @ weight.mT / weight.sum(-1, keepdim=True).clamp_min(1e-6)
