import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdnet_core.config import CorruptionConfig
from ssdnet_core.corruption import Corrupted, corrupt, random_blocks, shuffled_patches

sides = st.integers(16, 80)
blocks = st.sampled_from([3, 4, 8, 16])
ratios = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32)

few_examples = settings(max_examples=40)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(count, channels, height, width):
    """Return crops in which every value is another, none of them 0."""
    return (1.0 + torch.arange(count * channels * height * width)).view(count, channels, height, width)


def everything_counts(crops):
    return torch.ones_like(crops[:, :1])


def settings_of(**changes):
    return CorruptionConfig(**{"mask_ratio": 0.4, "shuffle_ratio": 0.5, **changes})


def places(planes):
    """(N, C, H, W) to (N, H, W, C)."""
    return planes.permute(0, 2, 3, 1)


def planes(places):
    """(N, H, W, C) to (N, C, H, W)."""
    return places.permute(0, 3, 1, 2)


def corrupted(crops, valid=None, *, noise=0.0, block=8, seed=0, **changes):
    """Corrupt (N, C, H, W), with white noise of the sigma given."""
    valid = everything_counts(crops) if valid is None else valid
    white = noise * torch.randn(places(crops).shape, generator=generator(seed + 1))
    result = corrupt(
        places(crops),
        places(valid),
        noise=white,
        block=block,
        config=settings_of(**changes),
        generator=generator(seed),
    )
    return Corrupted(pixels=planes(result.pixels), hidden=planes(result.hidden))


def shuffled(crops, **options):
    return planes(shuffled_patches(places(crops), **options))


@few_examples
@given(st.integers(1, 3), sides, sides, blocks, ratios, seeds)
def test_exactly_the_share_asked_of_the_blocks_is_chosen(count, height, width, block, ratio, seed):
    begin = down, right = seed % block, seed // block % block
    chosen = random_blocks((count, height, width), block=block, begin=begin, ratio=ratio, generator=generator(seed))
    assert chosen.shape == (count, height, width)
    # The last place of each block, or of what is left of it.
    last_rows, last_columns = (
        [min(end, side) - 1 for end in range(block - start, side + block, block)]
        for side, start in ((height, down), (width, right))
    )
    number = math.ceil((height + down) / block) * math.ceil((width + right) / block)
    for one in chosen:
        grid = one[last_rows][:, last_columns]
        assert grid.numel() == number
        assert int(grid.sum()) == max(1, round(ratio * number))
        whole = grid.repeat_interleave(block, 0).repeat_interleave(block, 1)
        assert torch.equal(one, whole[down : down + height, right : right + width])
    assert set(chosen.unique().tolist()) <= {0.0, 1.0}


def test_every_block_has_the_same_chance_and_crops_are_drawn_apart():
    shape = (2, 32, 32)
    draws = torch.stack(
        [random_blocks(shape, block=8, begin=(0, 0), ratio=0.25, generator=generator(seed)) for seed in range(600)]
    )
    share = draws[:, :, ::8, ::8].mean((0, 1))
    assert float((share - 0.25).abs().max()) < 0.06
    together = (draws[:, 0] * draws[:, 1]).mean()
    assert float(together) == pytest.approx(0.25**2, abs=0.02)


@few_examples
@given(st.integers(1, 3), sides, sides, blocks, seeds)
def test_hidden_pixels_are_zero_when_nothing_is_shuffled(count, height, width, block, seed):
    crops = numbered(count, 3, height, width)
    result = corrupted(crops, block=block, seed=seed, shuffle_ratio=0.0, noise=0.5)
    hidden = result.hidden.expand_as(crops) > 0
    assert hidden.any()
    assert not result.pixels[hidden].any()


@few_examples
@given(st.integers(1, 3), sides, sides, blocks, seeds)
def test_visible_pixels_are_the_original_when_there_is_no_noise(count, height, width, block, seed):
    crops = numbered(count, 2, height, width)
    result = corrupted(crops, block=block, seed=seed)
    visible = result.hidden.expand_as(crops) == 0
    assert torch.equal(result.pixels[visible], crops[visible])


@few_examples
@given(st.integers(1, 3), sides, sides, st.sampled_from([3, 4, 8]), ratios, seeds)
def test_no_hidden_pixel_keeps_its_own_content(count, height, width, block, shuffle_ratio, seed):
    crops = numbered(count, 1, height, width)
    result = corrupted(crops, block=block, seed=seed, shuffle_ratio=shuffle_ratio)
    hidden = result.hidden > 0
    assert not (result.pixels == crops)[hidden].any()
    # What fills them is content of the crops, in the colours of one pixel, or nothing.
    filled = result.pixels[hidden & (result.pixels != 0)]
    assert torch.isin(filled, crops).all()


def test_shuffled_patches_come_whole_from_another_crop():
    crops = numbered(2, 3, 32, 48)
    moved = shuffled(crops, block=8, generator=generator(3))
    assert torch.equal(moved.flatten().sort().values, crops.flatten().sort().values)
    for number, one in enumerate(moved):
        other = crops[1 - number]
        for top in range(0, 32, 8):
            for left in range(0, 48, 8):
                patch = one[:, top : top + 8, left : left + 8]
                at = torch.nonzero(other[0] == patch[0, 0, 0])
                assert len(at) == 1
                row, column = at[0].tolist()
                assert torch.equal(patch, other[:, row : row + 8, column : column + 8])


def test_shuffled_patches_of_a_single_crop_come_from_another_place():
    crops = numbered(1, 1, 32, 48)
    for seed in range(60):
        assert not (shuffled(crops, block=8, generator=generator(seed)) == crops).any()


def test_the_patches_come_from_all_over():
    crops = numbered(1, 1, 32, 32)
    origins = {float(shuffled(crops, block=8, generator=generator(seed))[0, 0, 0, 0]) for seed in range(200)}
    assert len(origins) == 15


def test_crops_of_a_small_image_are_not_filled_with_their_own_content():
    crops = numbered(1, 1, 32, 32).repeat(2, 1, 1, 1)
    for seed in range(60):
        assert not (shuffled(crops, block=8, generator=generator(seed)) == crops).any()


def test_about_the_share_asked_of_the_masked_blocks_is_filled():
    crops = numbered(2, 1, 128, 128)
    for ratio in (0.25, 0.75):
        results = [corrupted(crops, seed=seed, shuffle_ratio=ratio) for seed in range(20)]
        filled = [float((r.pixels[r.hidden > 0] != 0).float().mean()) for r in results]
        assert sum(filled) / len(filled) == pytest.approx(ratio, abs=0.05)


def test_the_grid_of_blocks_begins_at_any_place_and_filled_blocks_lie_on_that_of_the_masked_ones():
    begins = set()
    for seed in range(200):
        result = corrupted(numbered(1, 1, 32, 32), block=4, seed=seed)
        masked, filled = result.hidden[0, 0] > 0, (result.pixels[0, 0] != 0) & (result.hidden[0, 0] > 0)
        grids = [
            (down, right)
            for down in range(4)
            for right in range(4)
            if all(_whole_blocks(flags[down:, right:], side=4) for flags in (masked, filled))
        ]
        assert grids
        begins.update(grids)
    assert len(begins) == 16


def _whole_blocks(flags, *, side):
    parts = flags.unfold(0, side, side).unfold(1, side, side).flatten(2)
    return bool((parts.all(-1) == parts.any(-1)).all())


def test_a_shuffle_ratio_of_one_leaves_no_zeros():
    result = corrupted(numbered(2, 3, 32, 32), shuffle_ratio=1.0)
    assert (result.pixels != 0).all()
    assert float(result.hidden.mean()) == pytest.approx(0.4, abs=0.04)


def test_the_mask_channel_flags_filled_blocks_as_well():
    # Told apart by the mask channel alone: a filled block looks like texture.
    crops = numbered(2, 1, 64, 64)
    result = corrupted(crops, shuffle_ratio=1.0)
    assert torch.equal((result.pixels != crops).float(), result.hidden)


@pytest.mark.parametrize("sigma", [0.05, 0.5])
def test_the_noise_touches_only_visible_pixels(sigma):
    crops = numbered(2, 3, 128, 128) * 1e-5
    quiet, noisy = (corrupted(crops, seed=5, noise=noise) for noise in (0.0, sigma))
    visible = (noisy.hidden == 0).expand_as(crops)
    noise = noisy.pixels - crops
    assert float(noise[visible].std()) == pytest.approx(sigma, rel=0.03)
    assert float(noise[visible].mean()) == pytest.approx(0.0, abs=0.03 * sigma)
    assert torch.equal(noisy.hidden, quiet.hidden)
    assert torch.equal(noisy.pixels[~visible], quiet.pixels[~visible])


@few_examples
@given(seeds, st.integers(1, 3), st.sampled_from([0.0, 0.5, 1.0]))
def test_invalid_pixels_are_hidden_and_never_used_as_filler(seed, count, shuffle_ratio):
    crops = numbered(count, 3, 32, 48)
    valid = (torch.rand(count, 1, 32, 48, generator=generator(seed)) > 0.3).float()
    crops = crops * valid
    result = corrupted(crops, valid, seed=seed, shuffle_ratio=shuffle_ratio, noise=0.1)
    invalid = valid == 0
    assert (result.hidden[invalid] == 1).all()
    assert not result.pixels[invalid.expand_as(crops)].any()


def test_images_of_a_group_lose_the_same_places_with_all_that_they_hold():
    crops = 1.0 + torch.rand(2, 16, 16, 5, 3, 4, generator=generator())
    valid = torch.ones(2, 16, 16, 5, 1, 4)
    config = settings_of(shuffle_ratio=0.0)
    result = corrupt(crops, valid, noise=torch.zeros(1), block=4, config=config, generator=generator())
    assert result.hidden.shape == valid.shape
    assert bool((result.hidden == result.hidden[:, :, :, :1, :, :1]).all())
    assert torch.equal((result.pixels == 0).float(), result.hidden.expand_as(crops))


@few_examples
@given(seeds)
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(seed):
    crops = torch.randn(2, 3, 64, 64, generator=generator(1))
    once, again, other = (corrupted(crops, seed=s, noise=0.1) for s in (seed, seed, seed + 1))
    assert once.pixels.numpy().tobytes() == again.pixels.numpy().tobytes()
    assert once.hidden.numpy().tobytes() == again.hidden.numpy().tobytes()
    assert not torch.equal(once.hidden, other.hidden)


def test_the_crops_are_left_as_they_were():
    crops = torch.randn(2, 3, 64, 64, generator=generator())
    before = crops.clone()
    corrupted(crops, noise=0.1)
    assert torch.equal(crops, before)


def test_something_is_masked_even_at_the_smallest_share():
    for seed in range(10):
        assert corrupted(numbered(2, 1, 16, 16), seed=seed, mask_ratio=0.01).hidden.flatten(1).any(1).all()
