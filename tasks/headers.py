"""The sizes of images from their headers: many are read side by side, each no further than needed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from tasks.decoding import DecodeError, ImageHeader, IncompleteHeaderError, read_header, require_size
from tasks.manifest import ImageEntry
from tasks.storage import Storage
from tasks.storage_answers import StorageError

HEADER_READS: tuple[tuple[int | None, int], ...] = ((4 * 1024, 256), (64 * 1024, 128), (None, 8))
"""How many bytes are read for a header, at first and where that was not enough, and of how many images side by side.

Few JPEGs have more than 4 KiB before their size; TIFFs whose directory stands at their end have more than 64 KiB.
"""

RETRIED_AT_ONCE = 8

BYTES_READ_AT_ONCE = 2**28
"""Bytes that are read side by side, unless a single file is larger."""


def read_headers(source: Storage, entries: Sequence[ImageEntry]) -> Iterator[ImageEntry]:
    """Give the entries with height and width, or the problem; those that need a longer read come later.

    What the store does not give is asked for once more, a few at a time: it may have refused so many requests at once.
    """
    refused: list[ImageEntry] = []
    for entry, error in _headers_or_refusals(source, entries):
        if error is None:
            yield entry
        else:
            refused.append(entry)
    for entry, error in _headers_or_refusals(source, refused, most=RETRIED_AT_ONCE):
        yield entry if error is None else replace(entry, problem=str(error))


def _headers_or_refusals(
    source: Storage, entries: Sequence[ImageEntry], *, most: int | None = None
) -> Iterator[tuple[ImageEntry, StorageError | None]]:
    pending: list[ImageEntry] = []
    for entry in entries:
        try:
            require_size(entry.size)
            pending.append(entry)
        except DecodeError as error:
            yield replace(entry, problem=str(error)), None
    for length, side_by_side in HEADER_READS:
        longer: list[ImageEntry] = []
        for group in _read_at_once(pending, length=length, most=min(side_by_side, most or side_by_side)):
            heads = source.read_many([entry.key for entry in group], end=length)
            for entry in group:
                try:
                    header = _header(heads[entry.key])
                except IncompleteHeaderError as error:
                    if length is not None and entry.size > length:
                        longer.append(entry)
                    else:
                        yield replace(entry, problem=str(error)), None
                except DecodeError as error:
                    yield replace(entry, problem=str(error)), None
                except StorageError as error:
                    yield entry, error
                else:
                    yield replace(entry, height=header.height, width=header.width), None
        pending = longer


def _read_at_once(entries: Iterable[ImageEntry], *, length: int | None, most: int) -> Iterator[list[ImageEntry]]:
    group: list[ImageEntry] = []
    together = 0
    for entry in entries:
        size = entry.size if length is None else min(length, entry.size)
        if group and (len(group) == most or together + size > BYTES_READ_AT_ONCE):
            yield group
            group, together = [], 0
        group.append(entry)
        together += size
    if group:
        yield group


def _header(head: bytes | StorageError) -> ImageHeader:
    if isinstance(head, StorageError):
        raise head
    return read_header(head)
