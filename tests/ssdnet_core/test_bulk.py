import numpy as np
import pytest
import torch
from scipy import stats

from ssdnet_core.bulk import fit_bulk
from tests.ssdnet_core.drawn_values import drawn


def distances(points):
    """Return the distances of points (N, D) to their own bulk."""
    columns = points.T.float().contiguous()
    return fit_bulk(columns).distance(columns)


def correlated(count, dimensions, seed):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((dimensions, dimensions))
    return torch.from_numpy((rng.standard_normal((count, dimensions)) @ mixing + rng.standard_normal(dimensions)) * 2)


def with_gross_outliers(points, share, seed):
    spoiled, rng = points.clone(), np.random.default_rng(seed)
    chosen = rng.choice(len(points), int(share * len(points)), replace=False)
    spoiled[chosen] += torch.from_numpy(rng.choice([-1.0, 1.0], (len(chosen), 1))) * 100
    return spoiled, chosen


@pytest.mark.parametrize("dimensions", [2, 6, 18])
def test_the_mahalanobis_distance_of_normal_points_follows_numpys(dimensions):
    points = correlated(4900, dimensions, seed=dimensions)
    found = distances(points).numpy()
    centred = (points - points.mean(0)).numpy()
    inverse = np.linalg.inv(np.cov(centred.T) + 0.01 * np.cov(centred.T).trace() / dimensions * np.eye(dimensions))
    expected = np.einsum("nd,de,ne->n", centred, inverse, centred)
    # The trimmed covariance is smaller than that of all points, by one factor.
    assert stats.spearmanr(found, expected).statistic > 0.99
    assert 1 < np.median(found / expected) < 2


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_five_percent_gross_outliers_do_not_move_the_distances_and_rank_highest(share):
    points = correlated(4900, 6, seed=1)
    spoiled, chosen = with_gross_outliers(points, share, seed=2)
    clean, found = (distances(p).numpy() for p in (points, spoiled))
    rest = np.setdiff1d(np.arange(4900), chosen)
    ratio = found[rest] / clean[rest]
    assert 0.8 < np.quantile(ratio, 0.01) < np.quantile(ratio, 0.99) < 1.1
    assert found[chosen].min() > found[rest].max()
    # Without the trimming the outliers hide each other.
    naive = np.cov(spoiled.numpy().T)
    assert np.trace(naive) > 5 * np.trace(np.cov(points.numpy().T))


def test_the_distance_does_not_depend_on_rotations_and_units_of_the_features():
    points = correlated(2500, 5, seed=3)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    plain, turned = (distances(p) for p in (points, 7 * points @ rotation + 3))
    np.testing.assert_allclose(plain.numpy(), turned.numpy(), rtol=5e-3)


def test_correlated_features_are_judged_together():
    # Each feature alone is ordinary; only the combination is not.
    points = torch.randn(2500, 1, generator=torch.Generator().manual_seed(0)).repeat(1, 2)
    points += 0.2 * torch.randn(2500, 2, generator=torch.Generator().manual_seed(1))
    points[77] = torch.tensor([1.5, -1.5])
    distance = distances(points)
    assert int(distance.argmax()) == 77


@pytest.mark.parametrize("points", [torch.zeros(144, 3), torch.full((144, 3), 5.0), torch.zeros(16, 18)])
def test_features_without_any_spread_give_zeros(points):
    np.testing.assert_allclose(distances(points).numpy(), 0.0, atol=1e-6)


def test_fewer_pixels_than_features_give_finite_distances():
    found = distances(drawn(9, 18))
    assert bool(found.isfinite().all())
    assert float(found.min()) >= 0


def test_a_direction_of_hardly_any_spread_counts_at_least_as_the_variance_that_is_given():
    points = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    points[:, 1] *= 1e-3
    points[5, 1] = 1.0
    columns = points.T.contiguous()
    free, bound = (
        float(fit_bulk(columns, least_variance=least_variance).distance(columns)[5])
        for least_variance in (0.0, torch.tensor([[0.25]]))
    )
    own = float(columns[0, 5]) ** 2
    assert free > 20 + own
    assert bound == pytest.approx(own / 1.05 + 1 / 0.25, abs=1.0)


def test_a_sample_of_the_points_tells_their_bulk():
    points = correlated(60_000, 18, seed=5).T.float().contiguous()
    whole, sample = (fit_bulk(each).distance(points) for each in (points, points[:, ::8].contiguous()))
    np.testing.assert_allclose((sample / whole).numpy(), 1.0, atol=0.15)


@pytest.mark.parametrize("group", [(1,), (3,), (2, 2)])
def test_points_of_images_together_have_each_images_own_bulk(group):
    count = int(np.prod(group))
    # Of other centres, directions, units and outliers each.
    points = torch.stack(
        [
            10.0**seed * with_gross_outliers(correlated(400, 5, seed), 0.03 * seed, seed)[0].T.float()
            for seed in range(count)
        ]
    )
    together = fit_bulk(points.unflatten(0, group))
    alone = [fit_bulk(each) for each in points]
    for name in ("mean", "whitening"):
        expected = torch.stack([getattr(bulk, name) for bulk in alone]).unflatten(0, group)
        torch.testing.assert_close(getattr(together, name), expected, rtol=1e-3, atol=1e-6)
    distance = torch.stack([bulk.distance(each) for bulk, each in zip(alone, points, strict=True)])
    torch.testing.assert_close(
        together.distance(points.unflatten(0, group)), distance.unflatten(0, group), rtol=1e-3, atol=1e-3
    )
