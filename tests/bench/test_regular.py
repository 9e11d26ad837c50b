import numpy as np
import pytest

KINDS = ("waves", "turned", "weave", "holes", "stripes")


@pytest.fixture
def regular():
    import regular

    assert set(regular.KINDS) == set(KINDS)
    return regular


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "turned"])
def test_a_straight_texture_repeats_itself_and_a_displaced_one_less(regular, kind):
    def alike(displaced):
        made = regular.texture(kind, (8.0, 8.0), displaced=displaced, noise=8.0, seed=1).astype(float)
        # A weave's repeat is two periods.
        return np.corrcoef(made[:-16, :-16].ravel(), made[16:, 16:].ravel())[0, 1]

    assert alike(0.0) > 0.5
    assert alike(0.0) > alike(3.0)


@pytest.mark.parametrize("kind", KINDS)
def test_textures_of_other_seeds_are_others_and_none_is_clipped(regular, kind):
    def made(seed, noise):
        return regular.texture(kind, (14.0, 17.0), displaced=1.0, noise=noise, seed=seed)

    # Noise alone makes any two differ.
    assert (made(0, 0.0) != made(1, 0.0)).mean() > 0.1
    one = made(0, 8.0)
    assert one.shape == (regular.SIDE, regular.SIDE)
    assert one.min() > 0
    assert one.max() < 255
    assert one.std() > 1.2 * 8.0
    assert (one.astype(float) - made(0, 0.0)).std() == pytest.approx(8.0, rel=0.02)


def test_masks_leave_something_out_and_most_in(regular):
    nothing = np.zeros((regular.SIDE, regular.SIDE), dtype=bool)
    shown = regular.Photograph(nothing.astype(np.uint8), nothing, None)
    rng = np.random.default_rng(0)
    shares = {name: mask(shown, rng).missing.mean() for name, mask in regular.MASKS.items() if mask}
    assert len(shares) == 3
    assert all(0.02 < share < 0.5 for share in shares.values())
    assert shares["a frame"] == pytest.approx(1 - (1 - 48 / 256) ** 2, abs=0.01)
