from dataclasses import replace

import numpy as np
import pytest


@pytest.fixture
def stress():
    import stress

    return stress


def photograph(stress, size):
    rng = np.random.default_rng(0)
    truth = np.zeros(size, dtype=bool)
    truth[size[0] // 2 - 8 : size[0] // 2 + 8, size[1] // 2 - 8 : size[1] // 2 + 8] = True
    return stress.Photograph(rng.integers(60, 200, (*size, 3), dtype=np.uint8), truth, None)


@pytest.mark.parametrize("size", [(96, 96), (64, 1024), (1024, 64)])
def test_every_condition_leaves_an_image_with_its_defect_a_strip_too(stress, size):
    shown = photograph(stress, size)
    for name, change in stress.CONDITIONS.items():
        changed = change(shown, np.random.default_rng(1)) if change else shown
        assert changed.truth.shape == changed.pixels.shape[:2], name
        assert min(changed.truth.shape) >= 32, name
        assert changed.truth.any(), name
        assert not changed.truth.all(), name


def test_what_is_missing_moves_with_the_image(stress):
    missing = np.zeros((96, 96), dtype=bool)
    missing[:20] = True
    shown = replace(photograph(stress, (96, 96)), missing=missing)
    halved = stress.half(shown, np.random.default_rng(0))
    assert halved.missing.shape == halved.truth.shape == (48, 48)
    assert halved.missing[:10].all()
    assert not halved.missing[16:].any()
