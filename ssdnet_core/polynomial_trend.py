"""The trend of values across the image: a polynomial through their bulk, as of light, which a defect does not bend.

Each channel of (..., H, W) is treated alike and by itself, whichever image it belongs to; ``valid`` is (1, H, W), 1.0
where a pixel counts.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from ssdnet_core.devices import in_double
from ssdnet_core.filters import share_of, weighted_shrink
from ssdnet_core.medians import median, row_medians, values_that_count
from ssdnet_core.robust import MAD_TO_SIGMA, robust_z

TREND_GRID = 64
"""Least number of averages along the short side through which a trend is drawn."""

TREND_ROUNDS = 8
TREND_REACH = 4.0
"""In robust standard deviations: a pixel farther from the trend has no part in it (Tukey's biweight)."""


def level_z(values: Tensor, valid: Tensor) -> Tensor:
    """Return the robust z-score against a plane instead of a constant, for each channel.

    The light on most photographs falls off to one side, and scales everything there.
    """
    return robust_z(without_trend(values, valid), valid)


def without_trend(values: Tensor, valid: Tensor, *, degree: int = 1, radial: int = 0) -> Tensor:
    """Subtract from each channel the polynomial through its bulk: a plane, with degree 2 a paraboloid, and so on.

    With ``radial``, an even number above ``degree``, it also has a term of the distance from the middle to that power,
    in which all four corners are alike.

    Reweighted least squares with Tukey's biweight (Beaton and Tukey, Technometrics 1974), on averages over squares
    so that at least 64 are left along the short side: an anomalous minority does not bend the trend.
    """
    shape = values.shape
    values = values.reshape(-1, *shape[-2:])
    height, width = shape[-2:]
    factor = max(1, min(height, width) // TREND_GRID)
    share = share_of(valid, factor)
    coarse = weighted_shrink(values, valid, factor=factor)
    counted = (share > 0).float()
    level = median(coarse, counted)
    centred = coarse - level
    terms = _terms(height, width, degree=degree, radial=radial, factor=factor, dtype=values.dtype, device=values.device)
    coefficients = values.new_zeros(len(values), *terms.shape)
    weight = share
    for _ in range(TREND_ROUNDS):
        normal, moment = terms.normal_equations(weight, centred)
        coefficients[:, terms.of_rows, terms.of_columns] = terms.solved(normal, moment).to(values)
        distance = (centred - terms.of_squares(coefficients)).abs_()
        weight = share * biweight(distance, row_medians(values_that_count(distance, counted))[:, None, None])
    return (values - level - terms.of_pixels(coefficients)).view(shape)


def biweight(distance: Tensor, median_distance: Tensor) -> Tensor:
    """Return Tukey's weights, 0 to 1; 0 beyond four standard deviations, which the median distance tells robustly."""
    sigma = MAD_TO_SIGMA * median_distance
    scaled = distance / (TREND_REACH * sigma).clamp_min(1e-6)
    return scaled.square_().neg_().add_(1).clamp_min_(0).square_()


@dataclass(frozen=True, eq=False)
class _Terms:
    """The P terms of a polynomial: products of Legendre's along the rows and the columns, nearly independent.

    Term p is L_i(y) L_j(x), with i and j its degrees. So the polynomial is ``down @ c @ right.T``, c[i, j] being the
    coefficient of the term of these degrees and 0 without one; and of two terms, of degrees (i, j) and (k, l), the
    normal equations have the sum of w(y, x) L_i(y) L_k(y) L_j(x) L_l(x): ``pairs_down.T @ w @ pairs_right``.

    Attributes
    ----------
    down, right
        (h, degree + 1) and (w, degree + 1), their values at the squares.
    pixels_down, pixels_right
        (H, degree + 1) and (W, degree + 1), their values at the pixels.
    pairs_down, pairs_right
        (h, (degree + 1)^2) and (w, (degree + 1)^2), the products of two at the squares.
    of_rows, of_columns
        (P,), the degree of each term along either axis.
    ridge
        (P, P), added to the normal equations.
    free
        (P, K) in double precision, the sums of terms of which the polynomial is made; None if any will do.
    """

    down: Tensor
    right: Tensor
    pixels_down: Tensor
    pixels_right: Tensor
    pairs_down: Tensor
    pairs_right: Tensor
    of_rows: Tensor
    of_columns: Tensor
    ridge: Tensor
    free: Tensor | None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of degrees along either axis."""
        return self.down.shape[1], self.right.shape[1]

    def normal_equations(self, weight: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the matrices (C, P, P) and right sides (C, P) of least squares over (C, h, w).

        Summed along one axis after the other: a table of all terms at all squares would be megabytes for a strip.
        """
        (rows, columns), count = (self.of_rows, self.of_columns), self.down.shape[1]
        weight = weight / weight.sum((-2, -1), keepdim=True).clamp_min(1e-6)
        sums = (self.pairs_down.T @ weight @ self.pairs_right).view(-1, count, count, count, count)
        normal = sums[:, rows[:, None], rows, columns[:, None], columns]
        return normal + self.ridge, (self.down.T @ (weight * values) @ self.right)[:, rows, columns]

    def solved(self, normal: Tensor, moment: Tensor) -> Tensor:
        """Return the coefficients (C, P) of normal equations."""
        # At most 45 x 45; double precision gives much the same result on every device.
        normal, moment = in_double(normal), in_double(moment)
        if self.free is None:
            return torch.linalg.solve_ex(normal, moment[..., None]).result[..., 0]
        free = self.free.T @ normal @ self.free
        return torch.linalg.solve_ex(free, (moment @ self.free)[..., None]).result[..., 0] @ self.free.T

    def of_squares(self, coefficients: Tensor) -> Tensor:
        """Return the polynomials (C, h, w) of (C, degree + 1, degree + 1)."""
        return self.down @ coefficients @ self.right.T

    def of_pixels(self, coefficients: Tensor) -> Tensor:
        """Return the polynomials (C, H, W) of (C, degree + 1, degree + 1)."""
        return self.pixels_down @ coefficients @ self.pixels_right.T


# Some 20 trends of four shapes are taken off an image: without a cache a GPU would wait for the processor each time.
@lru_cache(maxsize=64)
def _terms(
    height: int, width: int, *, degree: int, radial: int, factor: int, dtype: torch.dtype, device: torch.device
) -> _Terms:
    highest = max(degree, radial)
    down, right = (_legendre(side, highest, factor=factor).to(device, dtype) for side in (height, width))
    pixels_down, pixels_right = (_legendre(side, highest).to(device, dtype) for side in (height, width))
    pairs_down, pairs_right = ((values[:, :, None] * values[:, None]).flatten(1) for values in (down, right))
    powers = [(i, j) for i in range(highest + 1) for j in range(highest + 1 - i)]
    exponents = torch.tensor(powers, device=device)
    ridge = torch.diag(torch.tensor([1e-6, *[1e-4] * (len(exponents) - 1)], dtype=dtype, device=device))
    return _Terms(
        down,
        right,
        pixels_down=pixels_down,
        pixels_right=pixels_right,
        pairs_down=pairs_down,
        pairs_right=pairs_right,
        of_rows=exponents[:, 0],
        of_columns=exponents[:, 1],
        ridge=ridge,
        free=in_double(_radial_beside(powers, degree=degree, radial=radial).to(device)) if radial else None,
    )


def _radial_beside(powers: list[tuple[int, int]], *, degree: int, radial: int) -> Tensor:
    """Return the terms of ``powers`` up to a degree, and (x^2 + y^2)^(radial / 2), as sums of terms: (P, K)."""
    columns = [[float(power == own) for power in powers] for own in powers if sum(own) <= degree]
    half = radial // 2
    distance = np.zeros((radial + 1, radial + 1))
    for k in range(half + 1):
        down, right = (legendre.poly2leg([0.0] * (2 * power) + [1.0]) for power in (k, half - k))
        distance[: len(down), : len(right)] += math.comb(half, k) * np.outer(down, right)
    columns.append([float(distance[power]) for power in powers])
    return torch.tensor(columns, dtype=torch.float64).T


def _legendre(side: int, degree: int, *, factor: int = 1) -> Tensor:
    # At the centres of pixels, or of squares of ``factor``: -1 to 1 from edge to edge of the image.
    squares = torch.arange(math.ceil(side / factor), dtype=torch.float32)
    centres = factor * (2 * squares + 1) / side - 1
    return torch.stack([torch.special.legendre_polynomial_p(centres, power) for power in range(degree + 1)], dim=1)
