import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdnet_core import Config, InvalidConfigError, InvalidImageError, localize, localize_group
from ssdnet_core.devices import resolve_precision
from ssdnet_core.fitting import fit
from ssdnet_core.groups import FREE_SHARE, bytes_per_image, evidence_of_group, group_size, in_groups
from ssdnet_core.preparation import prepare
from ssdnet_core.synthetic import sample

LIGHT = Config().updated({"network.width": 8, "fit.steps": 6, "fit.crop": 64, "precision": "float32", "device": "cpu"})


def textile(seed, size=(64, 64), defect="none"):
    return sample("weave", defect, size=size, seed=seed).pixels


def hole_mask(shape=(64, 64)):
    mask = np.zeros(shape, dtype=bool)
    mask[10:25, 30:50] = True
    return mask


def bytes_of(result):
    return result.working_map.tobytes(), result.working_background.tobytes(), repr((result.score, result.regions))


def measured(code):
    """Return what a fresh interpreter prints: its memory is its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_an_image_gets_in_a_group_what_it_gets_alone():
    images = [textile(seed, defect="hole" if seed == 1 else "none") for seed in range(5)]
    # Of other units; the images of each mask do not lie beside one another.
    images[1] = 200 * images[1].astype(np.uint16)
    masks = [None, hole_mask(), hole_mask().T, None, hole_mask()]
    # After one step: where a whole masked area lies on the kink of an activation, rounding decides on which side.
    config = LIGHT.updated({"fit.steps": 1})
    together = localize_group(images, masks, config=config, size=5)
    alone = [localize(image, mask, config=config) for image, mask in zip(images, masks, strict=True)]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.working_background, other.working_background, rtol=1e-3, atol=0.05)
        np.testing.assert_allclose(one.working_map, other.working_map, rtol=2e-3, atol=2e-3)
        assert one.score == pytest.approx(other.score, abs=0.02)
        assert one.defective == other.defective
        assert one.warnings == other.warnings


def test_the_seconds_of_a_groups_images_are_shares_of_what_the_process_took():
    working = [prepare(textile(seed), None, config=LIGHT) for seed in range(4)]
    started = time.process_time()
    found = evidence_of_group(working, LIGHT, size=4)
    spent = time.process_time() - started
    assert 0.5 * spent < sum(one.seconds for one in found) <= spent


def test_a_map_that_is_sharpened_takes_the_light_of_its_own_image():
    good, flawed = textile(3, (128, 128)), textile(1, (128, 128), defect="hole")
    y, x = np.indices(flawed.shape[:2])
    lamp = 0.5 + 0.5 * np.exp(-((y - 20) ** 2 + (x - 20) ** 2) / 4000)
    flawed = np.rint(flawed * lamp[:, :, None]).astype(np.uint8)
    mask = np.zeros(flawed.shape[:2], dtype=bool)
    mask[:5, :5] = True
    config = LIGHT.updated({"fit.steps": 4})
    alone = localize(flawed, mask, config=config)
    assert alone.defective
    _, together = localize_group([good, flawed], [None, mask], config=config, size=2)
    np.testing.assert_allclose(together.working_map, alone.working_map, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision",
    [
        "float32",
        pytest.param(
            "bfloat16",
            marks=pytest.mark.skipif(
                resolve_precision("auto", torch.device("cpu")) != torch.bfloat16,
                reason="a processor that computes bfloat16 by float32 takes minutes, and is never given it",
            ),
        ),
    ],
)
def test_after_a_whole_fit_the_map_of_a_group_differs_as_rounding_differs(precision):
    # Grouped kernels add up in another order, and sixty steps let that grow: by less than another seed does.
    images = [textile(seed, (128, 128), defect="hole") for seed in range(3)]
    config = Config().updated({"precision": precision, "device": "cpu"})
    other_seed = [localize(image, config=config.updated({"seed": 1})).working_map for image in images]
    for together, image, another in zip(
        localize_group(images, None, config=config, size=3), images, other_seed, strict=True
    ):
        alone = localize(image, config=config)
        difference, usual = (np.abs(each - alone.working_map).mean() for each in (together.working_map, another))
        assert difference < usual
        assert np.corrcoef(together.working_map.ravel(), alone.working_map.ravel())[0, 1] > 0.98
        assert together.defective == alone.defective


def test_what_is_kept_of_one_image_keeps_nothing_of_its_group():
    for result in localize_group([textile(seed) for seed in range(3)], config=LIGHT, size=3):
        for values in (result.working_map, result.working_background):
            assert values.flags.owndata
            assert values.flags.c_contiguous


def test_no_image_of_a_group_sees_another():
    images = [textile(seed) for seed in range(3)]
    before = localize_group(images, config=LIGHT, size=3)
    images[1] = 255 - images[1]
    after = localize_group(images, config=LIGHT, size=3)
    assert bytes_of(after[0]) == bytes_of(before[0])
    assert bytes_of(after[1]) != bytes_of(before[1])
    assert bytes_of(after[2]) == bytes_of(before[2])


def test_what_lies_under_a_mask_changes_no_byte_in_a_group():
    images, masks = [textile(seed) for seed in range(3)], [None, hole_mask(), None]
    before = localize_group(images, masks, config=LIGHT, size=3)
    images[1] = images[1].copy()
    images[1][masks[1]] = np.random.default_rng(0).integers(0, 256, images[1][masks[1]].shape, dtype=np.uint8)
    after = localize_group(images, masks, config=LIGHT, size=3)
    assert [bytes_of(each) for each in after] == [bytes_of(each) for each in before]


def test_images_of_any_shapes_come_back_in_their_order_constant_ones_too():
    images = [textile(0), textile(1, (64, 96)), np.full((64, 64, 3), 80, np.uint8), textile(2), textile(3)[:, :, 0]]
    results = localize_group(images, config=LIGHT, size=8)
    assert [result.original_shape for result in results] == [image.shape[:2] for image in images]
    assert [result.working_background.shape[2] for result in results] == [3, 3, 3, 3, 1]
    assert [bool(result.warnings) for result in results] == [False, False, True, False, False]
    assert localize_group([], config=LIGHT) == []


def test_an_image_that_cannot_be_inspected_is_named_and_refused_before_anything_is_fitted():
    with pytest.raises(InvalidImageError, match=r"images\[1\]: .*20 x 64"):
        localize_group([textile(0), np.zeros((64, 20), np.uint8)], config=LIGHT)


def test_the_networks_of_a_group_start_alike():
    config = LIGHT.updated({"fit.steps": 1, "fit.learning_rate": 1e-12, "fit.weight_decay": 0.0})
    pixels, valid = torch.randn(3, 1, 64, 64), torch.ones(3, 1, 64, 64)
    networks = fit(pixels, valid, config=config, dtype=torch.float32)
    single = fit(pixels[:1], valid[:1], config=config, dtype=torch.float32)
    for of_group, of_one in zip(networks.parameters(), single.parameters(), strict=True):
        for of_image in of_group.chunk(3):
            torch.testing.assert_close(of_image, of_one)


@settings(max_examples=30)  # Each halving collects garbage, of all modules.
@given(st.integers(0, 40), st.integers(1, 50), st.integers(1, 50))
def test_groups_are_halved_until_the_memory_suffices_and_nothing_is_lost(count, size, capacity):
    done = []

    def work(group):
        if len(group) > capacity:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.append(len(group))
        return [10 * item for item in group]

    assert in_groups(list(range(count)), work, size=size) == [10 * item for item in range(count)]
    assert all(0 < number <= min(size, capacity) for number in done)
    # No more than halved: at least half of what fits.
    assert all(2 * number >= min(size, capacity) for number in done[:-1])


@pytest.mark.parametrize("size", [0, -3, 2.0, "4", True])
def test_a_group_of_no_number_of_images_is_refused(size):
    with pytest.raises(InvalidConfigError, match=rf"a group of {size} images cannot be: pass a whole number"):
        localize_group([textile(0)], None, config=LIGHT, size=size)


def test_settings_that_are_none_are_refused_of_no_image_as_well():
    with pytest.raises(InvalidConfigError, match="config is a dict"):
        localize_group([], config={})


def test_masks_that_are_not_as_many_as_the_images_are_refused():
    with pytest.raises(InvalidImageError, match="2 images came with 1 masks"):
        localize_group([textile(0), textile(1)], [None], config=LIGHT)


def numpys_lack_of_memory():
    try:
        np.empty(2**62, np.uint8)
    except MemoryError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuBLAS error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.20 GB, other allocations: 896.00 KB, max allowed"),
        numpys_lack_of_memory(),
        MemoryError(),
    ],
    ids=["CUDA", "cuBLAS", "MPS", "numpy", "Python"],
)
def test_a_lack_of_memory_outside_torchs_allocator_halves_the_group_too(error):
    sizes = []

    def work(group):
        sizes.append(len(group))
        if len(group) > 2:
            raise error
        return list(group)

    assert in_groups([1, 2, 3, 4], work, size=4) == [1, 2, 3, 4]
    assert sizes == [4, 2, 2]


def test_what_a_failed_attempt_left_cached_on_mps_is_given_back_before_the_next(monkeypatch):
    happened = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: happened.append("emptied"))

    def work(group):
        happened.append(len(group))
        if len(group) > 1:
            raise RuntimeError("MPS backend out of memory")
        return list(group)

    assert in_groups([1, 2], work, size=2) == [1, 2]
    assert happened == [2, "emptied", 1, 1]


def test_a_lack_of_memory_for_one_image_says_what_to_do():
    def work(group):
        raise MemoryError

    with pytest.raises(MemoryError, match=r"one image alone does not fit: set a smaller working_size .*MemoryError"):
        in_groups([1, 2], work, size=2)


def test_errors_other_than_a_lack_of_memory_are_not_tried_again():
    tried = []

    def work(group):
        tried.append(len(group))
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        in_groups([1, 2, 3, 4], work, size=4)
    assert tried == [4]


LIMITED = """
import resource
import torch
import numpy as np
from ssdnet_core import Config, localize, localize_group
from ssdnet_core import groups
torch.set_num_threads(1)
config = Config().updated(
    {"network.width": 8, "fit.steps": 2, "fit.crop": 64, "precision": "float32", "device": "cpu", "working_size": 512}
)
images = [np.random.default_rng(seed).integers(0, 256, (256, 256, 3), dtype=np.uint8) for seed in range(8)]
alone = [localize(image, config=config).score for image in images]
sizes, plain = [], groups.gather_evidence
def noted(group, config):
    sizes.append(len(group))
    return plain(group, config)
groups.gather_evidence = noted
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 150 * 2**20, -1))
scores = [result.score for result in localize_group(images, config=config, size=8)]
assert np.allclose(scores, alone, atol=0.05), (scores, alone)
print(*sizes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process can only be limited on Linux")
def test_a_group_that_the_memory_does_not_hold_is_halved_for_real():
    sizes = [int(size) for size in measured(LIMITED)]
    assert sizes[0] == 8
    assert sizes[-1] < 8


PEAK = """
import re, torch
from pathlib import Path
from ssdnet_core.config import Config
from ssdnet_core.devices import resolve_precision
from ssdnet_core.fitting import fit
from ssdnet_core.reconstruction import BlindNetwork
torch.set_num_threads(1)
config = Config().updated({"fit.steps": 2})
pixels, valid = torch.randn(IMAGES, 3, 256, 256), torch.ones(IMAGES, 1, 256, 256)
network = fit(pixels, valid, config=config, dtype=torch.float32)
BlindNetwork.of(network, config.network).reconstruct(pixels, valid=valid, config=config.reconstruction)
# Not getrusage's: that begins with the peak of the process it was forked from.
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_an_image_takes_no_more_memory_on_a_processor_than_on_a_gpu():
    one, five = (1024 * int(measured(PEAK.replace("IMAGES", str(images)))[0]) for images in (1, 5))
    expected = bytes_per_image((3, 256, 256), Config())
    assert 0.2 * expected < (five - one) / 4 < expected


def test_a_processor_fits_one_image_at_a_time_unless_asked():
    assert group_size((3, 256, 256), Config(), device=torch.device("cpu")) == 1
    assert group_size((3, 256, 256), Config(), device=torch.device("cpu"), most=5) == 5


@pytest.mark.parametrize(
    ("held", "most", "size"), [(20, 64, 20), (20, 8, 8), (20, None, 20), (1000, 64, 64), (0, 8, 1)]
)
def test_a_gpu_fits_no_more_than_its_free_memory_holds_nor_than_asked(monkeypatch, held, most, size):
    shape = 3, 256, 256
    image = bytes_per_image(shape, Config())
    free = int((held + 0.5) * image / FREE_SHARE)
    cached = min(free, 2 * image)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free - cached, 2 * free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * image + cached)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3 * image)
    assert group_size(shape, Config(), device=torch.device("cuda"), most=most) == size
