import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core import Config, localize, localize_group
from ssdnet_core.preparation import prepare
from ssdnet_core.small_region import MOST_OF_IMAGE, SIDE_STEP, Box, box_of_what_counts
from ssdnet_core.synthetic import sample

QUICK = Config().updated({"fit.steps": 6, "fit.crop": 64, "working_size": 256})
SIDE = 96


@st.composite
def counted_rectangles(draw):
    height, width = draw(st.integers(32, 120)), draw(st.integers(32, 120))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    valid = torch.zeros(1, height, width)
    valid[0, top : draw(st.integers(top + 1, height)), left : draw(st.integers(left + 1, width))] = 1
    return valid


@given(valid=counted_rectangles(), least=st.integers(1, 64))
def test_the_box_holds_all_that_counts_and_is_the_smallest_of_its_kind(valid, least):
    height, width = valid.shape[-2:]
    box = box_of_what_counts(valid, least=least)
    assert box.cut(valid).sum() == valid.sum()
    rows, columns = (int(valid[0].any(axis).sum()) for axis in (1, 0))
    needed = [
        min(-(-max(least, seen) // SIDE_STEP) * SIDE_STEP, side) for side, seen in ((height, rows), (width, columns))
    ]
    if needed[0] * needed[1] <= MOST_OF_IMAGE * height * width:
        assert [box.bottom - box.top, box.right - box.left] == needed
    else:
        assert box == Box.whole((height, width))


def test_where_nothing_counts_the_box_is_the_whole_image():
    assert box_of_what_counts(torch.zeros(1, 40, 50), least=32) == Box.whole((40, 50))


@given(valid=counted_rectangles(), seed=st.integers(0, 99))
def test_what_is_pasted_lies_where_it_was_cut(valid, seed):
    values = torch.rand((3, *valid.shape[1:]), generator=torch.Generator().manual_seed(seed))
    box = box_of_what_counts(valid, least=32)
    back = box.paste(box.cut(values).permute(1, 2, 0).numpy(), beyond=[5, 6, 7])
    inside = np.zeros(box.size, dtype=bool)
    inside[box.top : box.bottom, box.left : box.right] = True
    assert (back[inside] == values.permute(1, 2, 0).numpy()[inside]).all()
    assert (back[~inside] == [5, 6, 7]).all()


def in_a_large_frame(image, *, top=64, left=40):
    """The image in a frame of twice its sides and a half, of which all else is hidden, and the mask."""
    large = np.full((240, 240, *image.shape[2:]), 7, dtype=np.uint8)
    mask = np.ones((240, 240), dtype=bool)
    there = np.s_[top : top + image.shape[0], left : left + image.shape[1]]
    large[there], mask[there] = image, False
    return large, mask, there


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("defect", ["hole", "none"])
def test_a_small_region_is_inspected_as_it_would_be_cut_out_to_the_bit(grey, defect):
    image = sample("leather", defect, size=(SIDE, SIDE), seed=3).pixels
    image = image[..., 0] if grey else image
    large, mask, there = in_a_large_frame(image)
    alone, within = localize(image, config=QUICK), localize(large, mask, config=QUICK)
    assert within.score == alone.score
    assert np.array_equal(within.anomaly_map[there], alone.anomaly_map)
    assert np.array_equal(within.background[there], alone.background)
    assert np.array_equal(within.labels[there], alone.labels)
    assert within.warnings == alone.warnings
    elsewhere = np.ones(mask.shape, dtype=bool)
    elsewhere[there] = False
    assert not within.anomaly_map[elsewhere].any()
    assert not within.labels[elsewhere].any()


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_a_small_region_of_a_large_image_is_prepared_as_it_would_be_cut_out_to_the_bit(dtype):
    rng = np.random.default_rng(0)
    large = rng.random((1024, 1024)).astype(np.float32)
    large = (large * 65535).astype(dtype) if dtype is np.uint16 else large
    mask = np.ones(large.shape, dtype=bool)
    mask[96:224, 320:448] = False
    config = Config(working_size=1024)
    within, alone = prepare(large, mask, config=config), prepare(large[96:224, 320:448], None, config=config)
    assert torch.equal(within.pixels, alone.pixels)
    assert within.grey_level == alone.grey_level
    for name in ("clipped", "commonest_share", "range_over_iqr"):
        assert getattr(within.preparation, name) == getattr(alone.preparation, name)


def test_regions_nearly_of_one_size_are_prepared_of_one_size():
    image, sizes = np.random.default_rng(0).integers(0, 255, (256, 512), dtype=np.uint8), set()
    for margin in range(4):
        mask = np.ones(image.shape, dtype=bool)
        mask[:, 200 + margin : 400 - margin] = False
        sizes.add(tuple(prepare(image, mask, config=QUICK).pixels.shape))
    assert sizes == {(1, 256, 224)}


def test_small_regions_of_other_places_are_fitted_in_a_group_as_each_is_alone():
    made = [
        in_a_large_frame(sample("weave", "hole", size=(SIDE, side), seed=seed).pixels, top=seed * 40)
        for seed, side in ((0, SIDE), (1, SIDE), (2, 120))
    ]
    together = localize_group([image for image, _, _ in made], [mask for _, mask, _ in made], config=QUICK, size=3)
    for (image, mask, _), found in zip(made, together, strict=True):
        alone = localize(image, mask, config=QUICK)
        assert found.working_map.shape == (240, 240)
        assert found.score == pytest.approx(alone.score, abs=0.3)
        assert np.corrcoef(found.working_map.ravel(), alone.working_map.ravel())[0, 1] > 0.99
