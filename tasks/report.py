"""The gallery of a batch: one static page, worst first, that opens from any folder without a network."""

import hashlib
import logging
import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.batch import GALLERY, IMAGE_TABLE, REPORT
from tasks.batch_results import BatchResults
from tasks.decoding import DecodeError
from tasks.fetching import MaskError, decode_as_listed
from tasks.finished_batch import check_seal, read_sealed
from tasks.manifest import Manifest
from tasks.maps import LostMapError, read_map
from tasks.pictures import can_be_shown, colour_bar, heat_layer, overlay, photograph
from tasks.records import ImageRecord
from tasks.settings_in_words import settings_of
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError, StorageError
from tasks.words import shown_score

_log = logging.getLogger(__name__)

IMAGES = "images"
WORST_FOLDER = f"{REPORT}/worst"
MOST_PICTURES = 200
MOST_OVERLAYS = 5
DRAWING_THREADS = 4

OWN_PICTURE = re.compile(r"/[0-9]{7,}(-[0-9a-f]{8}(-map|-striped)?)?\.(jpg|png)$")
"""Ending of the keys of pictures that a report has drawn."""

STRIPED = "-striped.jpg"
"""Ending of names of photographs in which something was left out; the page explains stripes if it has any."""

COLOURS_FROM, COLOURS_TO = 0.5, 2.0
"""Ends of the colour scale, in alarm levels of the image that is shown."""

BYTES_DRAWN_AT_ONCE = 2**30
"""Bytes that images take that are drawn side by side, unless a single one takes more."""

BYTES_A_PIXEL = 20
"""Most bytes drawing takes: 17 were measured for maps, and for 8- or 16-bit photographs beside twice their file."""


class PictureNames(NamedTuple):
    """An image's pictures, below the report: its map's, and the photograph's, whole or with something left out."""

    heat: str
    whole: str
    striped: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image of the gallery: its record, and its files below the report; no photograph if it is gone.

    ``alarm_level`` is the map's value at which this image alarms: it is higher for a restless surface, or a large one,
    than for a calm one. Colours are reckoned from it.
    """

    record: ImageRecord
    photograph: str
    heat: str
    alarm_level: float

    @property
    def striped(self) -> bool:
        """Whether its photograph shows that something was left out."""
        return self.photograph.endswith(STRIPED)


def write_report(
    folder: Storage,
    results: BatchResults,
    *,
    most_pictures: int = MOST_PICTURES,
    check: Callable[[], None] = lambda: None,
) -> str:
    """Draw the gallery of a batch and return the address of its page.

    Parameters
    ----------
    most_pictures
        The gallery shows so many images, those of the highest scores; the failures are all listed.
    check
        Called before what a newer gallery of the batch would have too is replaced or deleted; raises if there may be
        one.
    """
    inspected = worst_first(results.present)
    draw = partial(_draw, folder=folder, manifest=results.manifest)
    sizes = {entry.index: entry.size for entry in results.manifest.entries}
    pictures = _drawn_at_once(draw, inspected[: max(most_pictures, MOST_OVERLAYS)], sizes=sizes)
    check()
    worst = [picture for picture in pictures[:MOST_OVERLAYS] if picture.photograph]
    for picture in worst:
        _draw_overlay(folder, picture)
    _delete_pictures(folder, WORST_FOLDER, but={overlay_key(picture.record) for picture in worst})
    scores = [record.score for record in inspected]
    page = _page(results, pictures=pictures[:most_pictures], scores=scores)
    check()
    folder.write(GALLERY, page.encode())
    check()
    # Even those beyond `most_pictures` stay: a later gallery may show more, with the images gone.
    kept = {f"{REPORT}/{name}" for record in inspected for name in _picture_names(record)}
    _delete_pictures(folder, f"{REPORT}/{IMAGES}", but=kept)
    return report_address(folder)


def draw_again(address: str, *, most_pictures: int = MOST_PICTURES) -> str:
    """Draw the gallery of a sealed batch in this folder again, and return the address of its page.

    Raises
    ------
    NotSealedError, LostRecordError, ChangedRecordsError
        As :func:`tasks.finished_batch.read_sealed`.
    LostMapError
        If a map is missing, or another one than its record's.
    ChangedBatchError
        If a run inspects the batch anew meanwhile, which has a gallery of its own.
    """
    folder, results, seal = read_sealed(address)
    check = partial(check_seal, folder, seal)
    check()
    try:
        return write_report(folder, results, most_pictures=most_pictures, check=check)
    except LostMapError:
        # A run that inspects anew replaces maps, of which this would say that they are lost.
        check()
        raise


def worst_first(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Return the inspected images among the records, highest scores first."""
    return sorted((r for r in records if r.inspected), key=lambda r: (-r.score, r.key))


def overlay_key(record: ImageRecord) -> str:
    """Return where one of the worst images lies with its map and regions drawn into it: one file."""
    return f"{WORST_FOLDER}/{record.index:07d}.jpg"


def report_address(folder: Storage) -> str:
    """Return where a batch's gallery lies."""
    return f"{folder.address}/{GALLERY}"


def drawing_bytes(record: ImageRecord, *, size: int) -> int:
    """Return how much memory it takes to draw an image whose file has so many bytes: its map, then its photograph.

    It is more for floating point in double precision, or compressed: the record does not know of either.
    """
    return 2 * size + BYTES_A_PIXEL * max(record.height * record.width, record.working_height * record.working_width)


def _drawn_at_once(
    draw: Callable[[ImageRecord], Picture], records: Sequence[ImageRecord], *, sizes: Mapping[int, int]
) -> list[Picture]:
    # Large ones by fewer threads, not by threads that wait for each other: each keeps some of what it once had.
    groups: defaultdict[int, list[ImageRecord]] = defaultdict(list)
    for record in records:
        need = drawing_bytes(record, size=sizes[record.index])
        groups[max(1, min(DRAWING_THREADS, BYTES_DRAWN_AT_ONCE // need))].append(record)
    pictures: dict[int, Picture] = {}
    for threads, group in groups.items():
        with ThreadPoolExecutor(threads) as pool:
            pictures |= {picture.record.index: picture for picture in pool.map(draw, group)}
    return [pictures[record.index] for record in records]


def _draw(record: ImageRecord, *, folder: Storage, manifest: Manifest) -> Picture:
    heat, level = _picture_names(record).heat, record.regions_from
    layer = heat_layer(read_map(folder, record), lowest=COLOURS_FROM * level, highest=COLOURS_TO * level)
    folder.write(f"{REPORT}/{heat}", layer)
    shown = _draw_photograph(folder, manifest, record=record)
    return Picture(record=record, photograph=shown, heat=heat, alarm_level=level)


def _draw_photograph(folder: Storage, manifest: Manifest, *, record: ImageRecord) -> str:
    _, whole, striped = _picture_names(record)
    mask = manifest.entries[record.index].mask
    for name in (whole, striped):
        # What was copied in part may be empty, or cut.
        if folder.exists(f"{REPORT}/{name}") and can_be_shown(folder.read(f"{REPORT}/{name}")):
            return name
    try:
        image, left_out = decode_as_listed(
            record.key,
            Storage(manifest.input),
            mask=mask,
            masks=Storage(manifest.masks) if manifest.masks else None,
            etag=record.etag,
        )
    except (StorageError, DecodeError, MaskError, MemoryError):
        return ""
    name = whole if left_out is None else striped
    folder.write(f"{REPORT}/{name}", photograph(image.pixels, left_out))
    return name


def _picture_names(record: ImageRecord) -> PictureNames:
    # Named after the map, or the ETag of image and mask: one that was drawn is right, whatever becomes of them.
    image = f"{IMAGES}/{record.index:07d}"
    photograph = f"{image}-{hashlib.sha256(record.etag.encode()).hexdigest()[:8]}"
    return PictureNames(f"{image}-{record.map_digest[:8]}-map.png", f"{photograph}.jpg", f"{photograph}{STRIPED}")


def _draw_overlay(folder: Storage, picture: Picture) -> None:
    record = picture.record
    boxes = [
        (
            region.left / record.width,
            region.top / record.height,
            region.right / record.width,
            region.bottom / record.height,
        )
        for region in record.regions
    ]
    photo, heat = (folder.read(f"{REPORT}/{name}") for name in (picture.photograph, picture.heat))
    folder.write(overlay_key(record), overlay(photo, heat, boxes=boxes))


def _delete_pictures(folder: Storage, below: str, *, but: Collection[str]) -> None:
    try:
        for picture in folder.below(below).list():
            key = f"{below}/{picture.key}"
            # Its own alone: another drawing at work in a folder has half-written files there, and a user may have more.
            if OWN_PICTURE.search(key) and key not in but:
                folder.delete(key)
    except MissingObjectError:
        return  # Nothing was ever drawn.
    except StorageError as error:
        # As under a policy that lets nothing be deleted: no reason to go without a gallery.
        _log.warning("%s may hold pictures that are no longer of use: %s", folder.below(below).address, error)


def _page(results: BatchResults, *, pictures: Sequence[Picture], scores: Sequence[float]) -> str:
    environment = Environment(loader=PackageLoader("tasks"), autoescape=True, undefined=StrictUndefined)
    verdict = results.manifest.config.verdict
    threshold = -math.log10(verdict.expected_false_alarms)
    return environment.get_template("report.html.j2").render(
        manifest=results.manifest,
        summary=results.summary,
        settings=settings_of(results.manifest),
        pictures=pictures,
        scores=scores,
        shown_score=shown_score,
        threshold=threshold,
        # How large a region were at another threshold is not known: verdicts that ask for an area need an inspection.
        thresholds=(min(-1, math.floor(threshold)), max(5, math.ceil(threshold))) if verdict.min_area == 1 else None,
        failed=results.failed,
        warned=results.warned,
        image_table=IMAGE_TABLE,
        colours=colour_bar(),
        colours_from=COLOURS_FROM,
        colours_to=COLOURS_TO,
        expected_false_alarms=verdict.expected_false_alarms,
    )
