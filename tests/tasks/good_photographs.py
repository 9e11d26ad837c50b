"""Photographs of good surfaces, for defects to be planted into."""

import numpy as np
from PIL import Image

from ssdnet_core.synthetic import TEXTURE_KINDS, sample


def write_photographs(folder):
    """Six good photographs of two surfaces: in colour, grey, with 16 bits, and with a transparent half."""
    for number in range(6):
        kind = TEXTURE_KINDS[number % 2]
        pixels = sample(kind, "none", size=(96, 112), seed=number).pixels
        picture = Image.fromarray(pixels)
        if number == 1:
            picture = Image.fromarray(pixels[:, :, 0].copy())
        elif number == 2:
            picture = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
        elif number == 3:
            picture.putalpha(Image.fromarray(np.repeat(np.uint8([0, 255]), 48)[:, None].repeat(112, axis=1)))
        (folder / kind).mkdir(parents=True, exist_ok=True)
        picture.save(folder / kind / f"{number}.png")
    return folder
