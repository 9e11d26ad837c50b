"""White noise of a sensor, told from the image itself and weakened before the fit. Not from the paper.

White noise is equally strong in all patterns of a patch, and everywhere; what a surface shows is not. So each pattern
of the discrete cosine transform of patches of 8 x 8 pixels is multiplied by the share of its energy nearby that is not
noise: Wiener's filter, with the image's own spectrum. Each pixel is the mean of the patches that hold it (Coifman and
Donoho, Translation-Invariant De-Noising, 1995). The energy of the noise is what fine patterns have where the image is
calmest.

Noise is weakened, not taken off: grain of the surface looks alike, and a place without it is a defect. Only in colour
can the two be told apart: grain is mostly a matter of brightness, whereas each channel of a sensor has its own noise.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from ssdnet_core.bands import bands
from ssdnet_core.filters import GRID, enlarge_squares, filled, share_of, weighted_shrink, weighted_smooth
from ssdnet_core.medians import row_quantiles, values_that_count

PATCH, STEP = 8, 2
"""Side in pixels of the patches, and how far they lie apart."""

FINE = (range(5, 8), range(2, 5))
"""Frequencies along both sides of the patches of two sets of patterns. The weaker set tells the noise, which is as
strong in either: mostly the finest one, but cloth whose threads are two pixels apart has its own contrast there."""

CALM_WINDOW, CALM_SHARE = 8.0, 0.1
"""Sigma in pixels of the windows in which the noise is looked for, and the share of the image that is taken for calm:
a surface has fine structure in places, noise is everywhere."""

CALM_NOISE = 0.87
"""Energy that white noise of variance 1 has in the calm share of the windows: measured, 0.85 to 0.89 at 256 x 256."""

SPECTRUM_WINDOW = 20.0
"""Sigma in pixels of the window over which a pattern's energy is averaged: so wide that noise averages out."""

SURPLUS = 1.5
"""Multiple of the noise's energy that is taken off, since the energies of its patterns vary about their mean."""

LEAST_KEPT = 0.3
"""Smallest factor of a pattern: some noise stays, so that a place without grain still stands out."""

LEAST_NOISE = 0.1
"""Share of an image's variance up to which noise is left as it is; above, what is taken off grows, up to all of it at
twice that share. Of 108 photographs without added noise the noisiest has 0.084; of every second of them with noise of a
tenth of the range two thirds have more than a tenth."""

MUCH_GRAIN = 0.25
"""Share of an image's variance above which noise that may be grain is told of. Of 73 photographs of other surfaces
without added noise 41 have more than :data:`LEAST_NOISE`, and 9 more than this."""

VALUES_AT_A_TIME = 2**21
"""Most values of patterns that are worked on together, for the memory that it takes: 590 x 590 pixels in colour have
so many."""

LEAST_PATCHES = 128
"""Number of patches without a missing pixel below which nothing is told, and the image left as it is."""

LEAST_VARIED = 1e-6
"""Share of an image's variance below which a colour is none: of a grey image that is stored with three channels."""


@dataclass(frozen=True)
class WhiteNoise:
    """The white noise in an image, and how much of it is a sensor's.

    Attributes
    ----------
    share
        Of the image's variance, 0 to 1: above :data:`LEAST_NOISE` it is weakened, up to that it is an upper bound.
    of_sensor
        The same of what all colours have alike, as no grain has; 0 if the noise is not weakened, and in grey, where
        nothing tells noise from grain. JPEG may average the colours of neighbouring pixels, and so hide a sensor's
        noise in them.
    """

    share: float = 0.0
    of_sensor: float = 0.0


NO_NOISE = WhiteNoise()


def with_weaker_noise(pixels: Tensor, valid: Tensor) -> tuple[Tensor, WhiteNoise]:
    """Weaken the white noise in an image.

    Parameters
    ----------
    pixels
        (C, H, W), of mean 0; 0 where not valid.
    valid
        (1, H, W), 1.0 where a pixel counts.

    Returns
    -------
    pixels, noise
        The image, the very same tensor if there is little noise; and what was found.
    """
    counted = _whole_patches(valid)
    variance = float(pixels.square().sum() / valid.sum())
    if int(counted.sum()) < LEAST_PATCHES or variance == 0:
        return pixels, NO_NOISE
    shown = filled(pixels, valid)
    axes = _principal_axes(pixels)
    colours = _padded(torch.einsum("cd,chw->dhw", axes, shown))
    noise = colours.new_full((len(colours),), torch.inf)
    for frequencies in FINE:
        noise = torch.minimum(noise, _calm_energy(colours, counted, frequencies=frequencies) / CALM_NOISE)
        share = min(1.0, float(noise.sum()) / variance)
        if share <= LEAST_NOISE:
            return pixels, WhiteNoise(share)
    of_sensor = min(1.0, _alike_in_all(colours, noise) / variance)
    taken = SURPLUS * min(1.0, share / LEAST_NOISE - 1.0) * noise
    weaker = torch.einsum("cd,dhw->chw", axes, _filtered(colours, counted, noise=taken))
    return weaker[:, : valid.shape[-2], : valid.shape[-1]] * valid, WhiteNoise(share, of_sensor)


def _alike_in_all(colours: Tensor, noise: Tensor) -> float:
    """Return the energy of the noise that all colours have alike, of (C,); 0 if only one of them varies."""
    energy = colours.square().mean((-2, -1))
    varied = noise[energy > LEAST_VARIED * energy.sum()]
    return len(varied) * float(varied.min()) if len(varied) > 1 else 0.0


def _filtered(colours: Tensor, counted: Tensor, *, noise: Tensor) -> Tensor:
    """Return padded colours (C, H', W') with so much energy, (C,), taken off each pattern; without their padding."""
    factor = GRID // STEP
    seen = share_of(counted, factor)
    total = torch.zeros_like(colours)
    together = min(PATCH, max(1, VALUES_AT_A_TIME // (len(colours) * counted.numel())))
    for down, first in product(range(PATCH), range(0, PATCH, together)):
        right = range(first, min(first + together, PATCH))
        patterns = _patterns(colours, down, right=right)
        energy = weighted_shrink(patterns.square(), counted, factor=factor)
        spectrum = weighted_smooth(energy, seen, sigma=SPECTRUM_WINDOW / GRID)
        kept = (1.0 - noise[:, None, None, None] / spectrum.clamp_min(1e-12)).clamp_min(LEAST_KEPT)
        kept = kept.where(spectrum > 0, 1.0)  # Where no whole patch is near nothing is known.
        if down == first == 0:
            kept[:, 0] = 1.0  # The mean of a patch: the light and the colour are no noise.
        kept = enlarge_squares(kept, factor, like=counted)
        total += _pictured(patterns * kept, down, right=right)
    around = PATCH - STEP
    return total[:, around:-around, around:-around] / (PATCH // STEP) ** 2


def _calm_energy(colours: Tensor, counted: Tensor, *, frequencies: range) -> Tensor:
    """Return the mean energy of patterns of such frequencies, down and to the right, where the image is calm: (C,)."""
    factor = GRID // STEP
    seen = share_of(counted, factor)
    energies = []
    for band in bands(counted.shape[-2], counted.shape[-1], reach=0):
        rows = colours[:, STEP * band.inner.start : STEP * (band.inner.stop - 1) + PATCH]
        of_rows = [_patterns(rows, down, right=frequencies).square().mean(1) for down in frequencies]
        energies.append(torch.stack(of_rows).mean(0))
    energy = weighted_shrink(torch.cat(energies, dim=-2), counted, factor=factor)
    nearby = weighted_smooth(energy, seen, sigma=CALM_WINDOW / GRID)
    return row_quantiles(values_that_count(nearby, seen), CALM_SHARE)


def _principal_axes(pixels: Tensor) -> Tensor:
    # In these a surface's contrast lies mostly in one colour, and the others are nearly all noise.
    values = pixels.flatten(1)
    return torch.linalg.eigh((values @ values.mT).double()).eigenvectors.to(pixels)


def _padded(values: Tensor) -> Tensor:
    """Continue (C, H, W) beyond its borders so that every pixel is in as many patches as any other."""
    return functional.pad(values[None], _edges(values), mode="replicate")[0]


def _edges(values: Tensor) -> tuple[int, int, int, int]:
    (height, width), around = values.shape[-2:], PATCH - STEP
    return around, around + -width % STEP, around, around + -height % STEP


def _whole_patches(valid: Tensor) -> Tensor:
    """Return 1.0 for each patch that lies in the image and has no missing pixel: (1, h, w)."""
    return 1.0 - functional.max_pool2d(1.0 - functional.pad(valid, _edges(valid)), PATCH, stride=STEP)


def _patterns(colours: Tensor, down: int, *, right: range) -> Tensor:
    """Return how strong the patterns of one frequency down and some to the right are in each patch: (C, N, h, w)."""
    waves = _waves(colours.dtype)
    strips = functional.conv2d(colours[:, None], waves[down].view(1, 1, PATCH, 1), stride=(STEP, 1))
    return functional.conv2d(strips, waves[right.start : right.stop].view(-1, 1, 1, PATCH), stride=(1, STEP))


def _pictured(patterns: Tensor, down: int, *, right: range) -> Tensor:
    """Return the sum of all patches that show such patterns: (C, H', W')."""
    waves = _waves(patterns.dtype)
    across = waves[right.start : right.stop].view(-1, 1, 1, PATCH)
    strips = functional.conv_transpose2d(patterns, across, stride=(1, STEP))
    return functional.conv_transpose2d(strips, waves[down].view(1, 1, PATCH, 1), stride=(STEP, 1))[:, 0]


@lru_cache(maxsize=2)
def _waves(dtype: torch.dtype) -> Tensor:
    """Return the orthonormal discrete cosines, a row each: (PATCH, PATCH). The tensor is cached: do not change it."""
    place = torch.arange(PATCH, dtype=torch.float64)
    waves = torch.cos(torch.pi / PATCH * place[:, None] * (place + 0.5)) * (2 / PATCH) ** 0.5
    waves[0] /= 2**0.5
    return waves.to(dtype)
