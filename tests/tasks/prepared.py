"""A small batch that is ready to be inspected."""

import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ssdnet_core.config import Config
from ssdnet_core.synthetic import sample
from tasks.discovery import discover, list_images
from tasks.inspection import Inspection
from tasks.manifest import ImageEntry, Manifest
from tasks.maps import prepare_maps
from tasks.storage import Storage

QUICK = Config().updated({"fit.steps": 3, "working_size": 64, "fit.crop": 32})


def prepared(tmp_path: Path, *names: str) -> tuple[Inspection, tuple[ImageEntry, ...]]:
    source = Storage(str(tmp_path / "night"))
    (tmp_path / "night").mkdir()
    for seed, name in enumerate(names):
        Image.fromarray(sample("leather", "hole", size=(64, 64), seed=seed).pixels).save(tmp_path / "night" / name)
    folder, manifest = founded(tmp_path, config=QUICK)
    return Inspection(source=source, folder=folder, config=QUICK, fingerprint=manifest.fingerprint), manifest.entries


def founded(tmp_path: Path, *, config: Config) -> tuple[Storage, Manifest]:
    """A batch's folder with its array of maps, and the manifest of the images in the folder ``night``."""
    source, folder = Storage(str(tmp_path / "night")), Storage(str(tmp_path / "results"))
    entries = discover(source, list_images(source))
    manifest = Manifest(batch="n", input=source.address, pattern="", config=config, entries=entries)
    prepare_maps(folder, manifest)
    return folder, manifest


@dataclass(frozen=True)
class DeadlyStorage(Storage):
    """A source some of whose images end the process that reads them: what running out of memory looks like."""

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        if "deadly" in key:
            os._exit(1)
        return super().read_with_etag(key)
