from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ssdnet_core.flaws import DEFECT_KINDS, SMALLEST_SIDE
from ssdnet_core.synthetic import TEXTURE_KINDS, sample

DEFECTS = DEFECT_KINDS[1:]
SEEDS = range(3)
SIZE = (96, 128)

kinds = st.sampled_from(TEXTURE_KINDS)
defects = st.sampled_from(DEFECTS)
seeds = st.integers(0, 2**32)
sizes = st.tuples(st.integers(SMALLEST_SIDE, 150), st.integers(SMALLEST_SIDE, 150))

made = cache(lambda kind, defect, seed: sample(kind, defect, size=SIZE, seed=seed))
every_defect = pytest.mark.parametrize(("kind", "defect"), list(product(TEXTURE_KINDS, DEFECTS)))


def differences(kind, defect, seed):
    """Of each pixel the largest change of a channel, in grey levels."""
    bad, good = made(kind, defect, seed).pixels.astype(int), made(kind, "none", seed).pixels.astype(int)
    return np.abs(bad - good).max(axis=2)


@settings(max_examples=40)
@given(kinds, defects, sizes, seeds)
def test_any_size_and_seed_gives_one_visible_defect_of_moderate_extent(kind, defect, size, seed):
    image = sample(kind, defect, size=size, seed=seed)
    assert image.pixels.shape == (*size, 3)
    assert image.pixels.dtype == np.uint8
    assert image.truth.shape == size
    assert image.truth.dtype == np.bool_
    assert (image.kind, image.defect) == (kind, defect)
    assert 10 <= image.truth.sum() < 0.5 * image.truth.size


@settings(max_examples=15)
@given(kinds, sizes, seeds)
def test_good_images_have_an_empty_truth(kind, size, seed):
    assert not sample(kind, "none", size=size, seed=seed).truth.any()


@settings(max_examples=15)
@given(kinds, st.sampled_from(DEFECT_KINDS), sizes, seeds)
def test_same_arguments_give_the_same_bytes(kind, defect, size, seed):
    first, second = (sample(kind, defect, size=size, seed=seed) for _ in range(2))
    assert first.pixels.tobytes() == second.pixels.tobytes()
    assert first.truth.tobytes() == second.truth.tobytes()


@every_defect
def test_outside_the_truth_the_image_equals_the_good_one_with_the_same_seed(kind, defect):
    for seed in SEEDS:
        assert not differences(kind, defect, seed)[~made(kind, defect, seed).truth].any()


@every_defect
def test_inside_the_truth_the_image_differs_without_large_gaps(kind, defect):
    for seed in SEEDS:
        truth, change = made(kind, defect, seed).truth, differences(kind, defect, seed)
        # Of a missing thread the parts below its neighbours leave no trace.
        assert (change[truth] > 0).mean() > (0.6 if (kind, defect) == ("weave", "thread") else 0.85)
        assert (ndimage.maximum_filter(change, size=7)[truth] > 0).all()
        assert change.max() > 15


@every_defect
def test_seeds_give_different_textures_and_different_places(kind, defect):
    for seed in SEEDS[1:]:
        assert (made(kind, defect, 0).pixels != made(kind, defect, seed).pixels).mean() > 0.5
        assert (made(kind, defect, 0).truth != made(kind, defect, seed).truth).any()


@pytest.mark.parametrize("kind", TEXTURE_KINDS)
def test_good_textures_are_evenly_lit_neither_flat_nor_clipped(kind):
    for seed in SEEDS:
        pixels = made(kind, "none", seed).pixels.astype(float)
        grey = pixels.mean(axis=2)
        quarters = [q.mean() for half in np.array_split(grey, 2) for q in np.array_split(half, 2, axis=1)]
        assert grey.std() > 5
        assert max(quarters) / min(quarters) < 1.25
        assert pixels.min() > 0
        assert pixels.max() < 255


@pytest.mark.parametrize("kind", TEXTURE_KINDS)
def test_holes_and_cuts_are_dark_and_patches_are_not(kind):
    for seed in SEEDS:
        good = made(kind, "none", seed).pixels.astype(float)
        for defect in ("hole", "cut", "patch"):
            bad = made(kind, defect, seed)
            ratio = bad.pixels[bad.truth].mean() / good[bad.truth].mean()
            assert abs(ratio - 1) < 0.05 if defect == "patch" else ratio < 0.9


@pytest.mark.parametrize(("size", "seed"), [((96, 640), 3), ((1024, 64), 4)])
def test_elongated_images_are_made(size, seed):
    for kind, defect in zip(TEXTURE_KINDS, DEFECTS, strict=False):
        image = sample(kind, defect, size=size, seed=seed)
        assert image.pixels.shape == (*size, 3)
        assert image.truth.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "marble"}, r"no texture 'marble'; choose of .*'weave'"),
        ({"defect": "dent"}, r"no defect 'dent'; choose of .*'stain'"),
        ({"size": (63, 256)}, r"\(63, 256\).*sides >= 64"),
        ({"seed": -1}, r"seed -1.*seed >= 0"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_remedy(arguments, message):
    valid = {"kind": "weave", "defect": "hole", "size": (64, 64), "seed": 0}
    asked = valid | arguments
    with pytest.raises(ValueError, match=message):
        sample(asked["kind"], asked["defect"], size=asked["size"], seed=asked["seed"])
