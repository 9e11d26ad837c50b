"""Working images with single settings, and otherwise all that was given counting, as it is."""

from ssdnet_core import Config
from ssdnet_core.preparation import WorkingImage, prepare


def prepared_with(image, mask, **settings) -> WorkingImage:
    return prepare(image, mask, config=Config(**({"leave_out_frame": False, "weaken_noise": False} | settings)))
