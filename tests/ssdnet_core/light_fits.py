"""Inspections that take a moment, for tests of what does not depend on how well the network learns."""

from ssdnet_core import Config, localize
from ssdnet_core.synthetic import sample

LIGHT = {"network.width": 8, "fit.steps": 4, "fit.crop": 64, "precision": "float32", "device": "cpu"}


def light(image, mask=None, **changes):
    """Inspect an image with a fit of four steps; settings by their dotted names, with two underscores for the dot."""
    return localize(
        image, mask, config=Config().updated({**LIGHT, **{k.replace("__", "."): v for k, v in changes.items()}})
    )


def textile(kind="weave", defect="none", *, size=(64, 64), seed=0):
    """Make a small texture; a weave without a defect, if nothing else is said."""
    return sample(kind, defect, size=size, seed=seed)
