import pytest
import torch
from scipy import ndimage

from ssdnet_core.local_energy import local_energy
from tests.ssdnet_core.made_surfaces import at_full_size, everything, highest, texture


@pytest.mark.parametrize("seed", range(3))
def test_streaks_stand_out_where_the_contrast_of_the_surface_varies_by_as_much(seed):
    # Its derivatives grow and shrink together; those of the streaks do not, though each is as strong as elsewhere.
    noise, size = texture(256, 256, seed=seed), (256, 256)
    streaks = torch.from_numpy(
        ndimage.uniform_filter1d(texture(256, 256, seed=seed + 9, smooth=0.7).numpy(), 9, axis=2)
    )
    image = noise * (0.5 * texture(256, 256, seed=seed + 99, smooth=10.0)).exp()
    image[:, 100:148, 100:148] = (streaks / streaks.std())[:, 100:148, 100:148]
    top, left = highest(at_full_size(local_energy(image, everything(image)), size))
    assert 100 <= top < 148
    assert 100 <= left < 148
