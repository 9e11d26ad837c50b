"""The images of a batch in their order, with their settings, and how that is stored.

The order is fixed once an image is in the manifest: image *i* of the manifest is index *i* of every array.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from ssdnet_core.config import Config, parse_config
from ssdnet_core.working_size import working_shape
from tasks.stored_json import from_json, to_json


@dataclass(frozen=True, kw_only=True)
class ImageEntry:
    """One image of a batch.

    Attributes
    ----------
    index
        Its place in every array of the batch.
    key
        Path below the batch's input.
    etag, size
        Those of the object when it was listed; the ETag of its mask, if it has one, is appended.
    height, width
        In pixels, after orientation; 0 if the header could not be read.
    mask
        Key of its mask below the batch's masks, empty if it has none.
    problem
        Why the header could not be read, else empty.
    present
        Whether the last listing still had it.
    """

    index: int
    key: str
    etag: str
    size: int
    height: int = 0
    width: int = 0
    mask: str = ""
    problem: str = ""
    present: bool = True

    @property
    def image_etag(self) -> str:
        """ETag of the image alone; empty if it could not be read when it was listed."""
        return self.etag.partition("+")[0]

    @property
    def readable(self) -> bool:
        """Whether it and its mask, if any, could be read: what cannot is listed with an empty ETag."""
        return bool(self.image_etag) and not (self.mask and self.etag.endswith("+"))

    def is_lost_in(self, found: "ImageEntry") -> bool:
        """Whether it was readable and, in a later listing, is not, or only its mask has become unreadable."""
        without_mask = found.mask == self.mask and found.etag == joint_etag(self.image_etag, "")
        return self.readable and (not found.image_etag or without_mask)

    def working_shape(self, working_size: int) -> tuple[int, int]:
        """Return (h, w) of its anomaly map."""
        return working_shape((self.height, self.width), working_size=working_size)


def joint_etag(of_image: str, of_mask: str) -> str:
    """Return one ETag for both: a changed mask is a changed image."""
    return f"{of_image}+{of_mask}"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The images of a batch, in their order, and the settings they are inspected with.

    Attributes
    ----------
    batch
        Name of the batch: the folder below the results.
    input
        Address of the folder or prefix that the keys lie below.
    pattern
        Glob that the keys match, empty for all images.
    config
        Settings of the method.
    entries
        Image *i* has index *i*.
    masks
        Address of the folder or prefix of the masks, empty if there are none.
    fingerprint
        The settings' fingerprint by the version of the method that founded the batch; by default ``config``'s now.
    """

    batch: str
    input: str
    pattern: str
    config: Config
    entries: tuple[ImageEntry, ...] = field(default=())
    masks: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", self.config.fingerprint())

    @property
    def present(self) -> "tuple[ImageEntry, ...]":
        """The images that the last listing had."""
        return tuple(entry for entry in self.entries if entry.present)

    def to_json(self) -> bytes:
        """Serialise, with one line for each image."""
        head = {
            "batch": self.batch,
            "input": self.input,
            "pattern": self.pattern,
            "masks": self.masks,
            "fingerprint": self.fingerprint,
        }
        head_text = json.dumps({**head, "config": self.config.model_dump(mode="json")}, indent=1)
        lines = ",\n  ".join(to_json(entry).decode() for entry in self.entries)
        return f'{head_text[:-2]},\n "entries": [\n  {lines}\n ]\n}}\n'.encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Manifest":
        """Read what :meth:`to_json` wrote."""
        stored = from_json(_StoredManifest, content, others=True)
        return cls(**{**vars(stored), "config": parse_config(stored.config)})

    def merged(self, discovered: "tuple[ImageEntry, ...]") -> "Manifest":
        """Return the manifest with a new listing: known images keep their index, new ones follow in key order.

        An entry that has become unreadable stays as it was: what it lies on may come back, such as a mounted folder.
        """
        listed = {entry.key: entry for entry in discovered}

        def now(entry: ImageEntry) -> ImageEntry:
            found = listed.pop(entry.key, None)
            if found is None:
                return replace(entry, present=False)
            return replace(entry, present=True) if entry.is_lost_in(found) else replace(found, index=entry.index)

        known = [now(entry) for entry in self.entries]
        added = [replace(entry, index=len(known) + offset) for offset, entry in enumerate(listed.values())]
        return replace(self, entries=(*known, *added))


@dataclass(frozen=True, kw_only=True)
class StoredOrigin:
    """What identifies a stored manifest's batch; without its settings, which this version may not know.

    The fingerprint is the stored one: made anew, it would let a later version of the method take over the batch.
    """

    input: str
    pattern: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class _StoredManifest(StoredOrigin):
    batch: str
    masks: str
    config: dict[str, Any]
    entries: tuple[ImageEntry, ...]
