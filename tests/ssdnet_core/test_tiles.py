import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from ssdnet_core import Config
from ssdnet_core.config import ReconstructionConfig
from ssdnet_core.fitting import fit
from ssdnet_core.reconstruction import BlindNetwork
from ssdnet_core.synthetic import sample
from ssdnet_core.tiles import LEAST_STEPS, MARGIN, OVERLAP, reconstruct_in_tiles, spans
from tests.ssdnet_core.drawn_values import drawn
from tests.ssdnet_core.prepared_with import prepared_with
from tests.ssdnet_core.whole_images import NetworkOfWholeImages

TILE = 384
steps = st.sampled_from([16, 32, 48, 96, 264, 512])

few_examples = settings(max_examples=5)


def settings_of(*, tile=TILE, block=16, shifts=1):
    return ReconstructionConfig(tile=tile, block=block, shifts=shifts)


def blind(network):
    return BlindNetwork(network, side=1, multiple=16, dtype=torch.float32)


def windowed(values):
    for size in ((MARGIN + 1, 1), (1, MARGIN + 1)):
        values = functional.avg_pool2d(values, size, stride=1, padding=(size[0] // 2, size[1] // 2))
    return values


def local_mean(seen):
    """A network that sees as far as a tile's margin, and answers with the mean of what is not hidden."""
    pixels, hidden = seen[:, :-1], seen[:, -1:]
    total, count = (windowed(each) for each in (pixels, 1 - hidden))
    return total / count.clamp_min(1e-3)


def everywhere(seen):
    """A network in which every pixel depends on everything that can be seen in its tile."""
    return seen[:, :-1].sum((-2, -1), keepdim=True).expand_as(seen[:, :-1])


@settings(max_examples=200)
@given(st.integers(1, 5000), st.integers(1, 100), steps)
def test_the_weights_of_the_tiles_sum_to_one_and_leave_their_margins_out(side, blocks, step):
    tile = max(2 * OVERLAP + LEAST_STEPS * step, blocks * 16)
    cut = spans(side, tile=tile, step=step)
    total, meeting = torch.zeros(side), torch.zeros(side)
    for span in cut:
        assert len(range(side)[span.place]) == len(span.weight)
        # None is predicted for nothing.
        assert span.weight.any()
        assert len(span.weight) <= tile
        assert span.place.start % step == 0
        assert float(span.weight.min()) >= 0
        total[span.place] += span.weight
        meeting[span.place] += span.weight > 0
        if span.place.start > 0:
            assert not span.weight[:MARGIN].any()
        if span.place.stop < side:
            assert not span.weight[-MARGIN:].any()
    np.testing.assert_allclose(total.numpy(), 1.0, atol=1e-6)
    assert int(meeting.max()) <= 2
    assert len(cut) == 1 or side > tile


@pytest.mark.parametrize("seed", range(3))
def test_behind_the_margin_the_networks_context_is_whole_and_half_a_margin_would_not_do(monkeypatch, seed):
    # But for the statistics of group norm, which are the whole tile's.
    monkeypatch.setattr(functional, "group_norm", lambda features, *_: features)
    network = NetworkOfWholeImages(1, Config().network)
    network.initialise(torch.Generator().manual_seed(seed))
    seen = torch.cat([drawn(1, 1, 64, 256, seed=seed), torch.zeros(1, 1, 64, 256)], dim=1)
    with torch.no_grad():
        whole, tile = network(seen), network(seen[..., :128])
    difference = (whole[..., :128] - tile).abs().mean((0, 1, 2)).flip(0) / whole.std()
    assert float(difference[MARGIN:].max()) < 1e-3
    assert float(difference[MARGIN // 2 : MARGIN].max()) > 2e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_weights_are_the_same_whatever_the_callers_default_dtype(dtype):
    plain = spans(3000, tile=TILE, step=32)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        changed = spans(3000, tile=TILE, step=32)
    finally:
        torch.set_default_dtype(before)
    assert all(torch.equal(one.weight, other.weight) for one, other in zip(plain, changed, strict=True))


@settings(max_examples=50)
@given(st.integers(1, 5000), st.integers(24, 100))
def test_there_are_no_more_tiles_than_needed(side, blocks):
    tile = 16 * blocks
    own = tile - OVERLAP - 32
    assert len(spans(side, tile=tile, step=32)) <= max(1, 1 + -((tile - side) // own))


@few_examples
@given(st.integers(40, 700), st.integers(40, 700), st.sampled_from([TILE, 416, 512]), st.booleans())
def test_in_tiles_is_in_one_piece_for_a_network_that_sees_no_farther_than_the_margin(height, width, tile, masked):
    image = drawn(1, 2, height, width)
    valid = torch.ones(1, 1, height, width)
    if masked:
        valid[..., 10:30, 20:35] = 0
    whole = blind(local_mean).reconstruct(image, valid=valid, config=settings_of())
    tiled = reconstruct_in_tiles(blind(local_mean), image, valid=valid, config=settings_of(tile=tile))
    np.testing.assert_allclose(tiled.numpy(), whole.numpy(), atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 96), (384, 384), (100, 384)])
def test_an_image_no_larger_than_a_tile_is_one_piece_to_the_bit(shape):
    image = drawn(1, 1, *shape)
    valid = torch.ones(1, 1, *shape)
    whole = blind(everywhere).reconstruct(image, valid=valid, config=settings_of())
    assert torch.equal(reconstruct_in_tiles(blind(everywhere), image, valid=valid, config=settings_of()), whole)


@pytest.mark.parametrize("shape", [(64, 2304), (2304, 64), (380, 388)])
def test_a_strip_of_no_more_pixels_than_a_tile_is_one_piece_whatever_part_of_it_counts(shape):
    image, valid = drawn(1, 1, *shape), torch.ones(1, 1, *shape)
    valid[..., shape[0] // 2 :, shape[1] // 3 :] = 0
    whole = blind(everywhere).reconstruct(image, valid=valid, config=settings_of())
    assert torch.equal(reconstruct_in_tiles(blind(everywhere), image, valid=valid, config=settings_of()), whole)
    # Of more it is not.
    longer = drawn(1, 1, *(2 * side for side in shape))
    counted = torch.ones(1, 1, *longer.shape[-2:])
    pieces = reconstruct_in_tiles(blind(everywhere), longer, valid=counted, config=settings_of())
    assert not torch.equal(pieces, blind(everywhere).reconstruct(longer, valid=counted, config=settings_of()))


@few_examples
@given(st.integers(0, 499), st.integers(0, 539), st.sampled_from([(16, 1), (16, 2), (24, 1)]))
def test_where_tiles_meet_a_pixel_does_not_see_its_own_block_either(row, column, placement):
    block, shifts = placement
    cell = block // shifts
    top, left = row // cell * cell, column // cell * cell
    image = drawn(1, 1, 500, 540)
    valid = torch.ones(1, 1, 500, 540)
    changed = image.clone()
    changed[..., top : top + cell, left : left + cell] += 100.0
    before, after = (
        reconstruct_in_tiles(blind(everywhere), each, valid=valid, config=settings_of(block=block, shifts=shifts))
        for each in (image, changed)
    )
    here = (..., slice(top, top + cell), slice(left, left + cell))
    assert torch.equal(before[here], after[here])
    assert not torch.equal(before, after)


@pytest.mark.parametrize("block", [36, 68, 256])
def test_tiles_are_large_enough_for_any_block(block):
    # Beside strips no wider than this a tile is so long that they are one piece.
    image, valid = drawn(1, 1, 600, 3000), torch.ones(1, 1, 600, 3000)
    for column in (0, 1400, 2999):
        left = column // block * block
        here = (..., slice(0, block), slice(left, left + block))
        changed = image.clone()
        changed[here] += 100.0
        before, after = (
            reconstruct_in_tiles(blind(everywhere), each, valid=valid, config=settings_of(block=block))
            for each in (image, changed)
        )
        assert torch.equal(before[here], after[here])


@pytest.fixture(scope="module")
def fitted():
    """A fitted network, its image and the reconstruction in one piece and in tiles."""
    config = Config().updated({"network.width": 24, "fit.steps": 60, "working_size": 704, "precision": "float32"})
    image = prepared_with(sample("weave", "none", size=(704, 704)).pixels, None, working_size=704)
    pixels, valid = image.pixels[None], image.valid[None]
    network = fit(pixels, valid, config=config, dtype=torch.float32)
    blind_network = BlindNetwork.of(network, config.network)
    return (
        image.pixels,
        blind_network.reconstruct(pixels, valid=valid, config=settings_of())[0],
        reconstruct_in_tiles(blind_network, pixels, valid=valid, config=settings_of())[0],
    )


@pytest.mark.slow
def test_the_tiles_of_a_fitted_network_differ_little_from_one_piece(fitted):
    # By what the network's group norm takes from each tile instead of the whole: .05 here, with the smallest tiles.
    image, whole, tiled = fitted
    assert float((tiled - whole).square().mean().sqrt()) < 0.1 * float((image - whole).square().mean().sqrt())


@pytest.mark.slow
def test_no_seam_is_seen_where_tiles_meet(fitted):
    _, whole, tiled = fitted
    jumps = (tiled - whole).diff(dim=2).abs().mean((0, 1))
    passing = torch.zeros(704)
    for span in spans(704, tile=TILE, step=32):
        passing[span.place] += ((span.weight > 0) & (span.weight < 1)).float()
    blended = (passing[1:] > 0) | (passing[:-1] > 0)
    assert 100 < int(blended.sum()) < 300
    assert float(jumps[blended].max()) < 1.5 * float(jumps[~blended].max())
    # The prediction itself is no rougher there than in one piece.
    rough, plain = (each.diff(dim=2).abs().mean((0, 1))[blended].mean() for each in (tiled, whole))
    assert 0.95 < float(rough / plain) < 1.05


MEASURE = """
import re, sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from ssdnet_core import Config, localize
side = int(sys.argv[1])
image = np.random.default_rng(0).integers(0, 255, (side, side), dtype=np.uint8)
changes = {"working_size": side, "network.width": 16, "fit.steps": 2, "device": "cpu"}
tiles = {"reconstruction.tile": 512, "reconstruction.shifts": 1}
localize(image, config=Config().updated({**changes, **tiles}))
# Not getrusage's: that begins with the peak of the process it was forked from.
print(1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
"""


def peak_memory(side):
    """Return the peak memory in bytes of a process that inspects an image of side x side."""
    command = [sys.executable, "-c", MEASURE, str(side)]
    # What is freed goes back at once, so that the peak is of what is held, to a MB, and not of the allocator's habits.
    at_once = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | at_once
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_grows_by_the_image_and_a_few_maps():
    small, large = (peak_memory(side) for side in (768, 1536))
    # 91 bytes a pixel were measured, of which the image, its prediction and the map are 17; 163 in one piece.
    assert (large - small) / (1536**2 - 768**2) < 105
