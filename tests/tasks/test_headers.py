from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import tifffile
from PIL import Image

import tasks.decoding
import tasks.headers
from tasks.discovery import discover, list_images
from tasks.headers import HEADER_READS, RETRIED_AT_ONCE
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tests.tasks.small_images import CountedStorage, write_image


def test_headers_give_the_sizes_and_unreadable_ones_their_problem(tmp_path):
    write_image(tmp_path / "a.png", (40, 50))
    (tmp_path / "b.png").write_bytes(b"no picture")
    # A TIFF's directory may stand behind the pixels, beyond what is read at first.
    tifffile.imwrite(tmp_path / "c.tif", np.random.default_rng(0).integers(0, 255, (300, 400), dtype=np.uint8))
    source = Storage(str(tmp_path))
    entries = discover(source, list_images(source))
    assert [(entry.height, entry.width) for entry in entries] == [(40, 50), (0, 0), (300, 400)]
    assert "no pict" in entries[1].problem
    assert [entry.index for entry in entries] == [0, 1, 2]


def test_a_header_is_read_short_first_and_longer_only_where_that_was_not_enough(tmp_path):
    write_image(tmp_path / "a.png")
    # A comment of 8 KiB before the size.
    Image.new("L", (50, 40)).save(tmp_path / "b.jpg", comment=b"." * 8000)
    # libtiff writes the directory behind the pixels.
    noise = np.random.default_rng(0).integers(0, 255, (300, 400), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "c.tif", compression="tiff_lzw")
    source = CountedStorage(str(tmp_path))
    entries = discover(source, list_images(source))
    assert [(entry.height, entry.width) for entry in entries] == [(40, 50), (40, 50), (300, 400)]
    short, long, whole = (length for length, _ in HEADER_READS)
    lengths = {key: [end for name, end in source.reads if name == key] for key in ("a.png", "b.jpg", "c.tif")}
    assert lengths == {"a.png": [short], "b.jpg": [short, long], "c.tif": [short, long, whole]}


@dataclass(frozen=True)
class BusyStorage(Storage):
    """Refuses what it is asked for beyond a few at once, and one object always."""

    def read_many(self, keys: Iterable[str], *, end: int | None = None) -> dict[str, bytes | StorageError]:
        keys = list(keys)
        refused = [key for place, key in enumerate(keys) if place >= RETRIED_AT_ONCE or key == "03.png"]
        return super().read_many(keys, end=end) | {key: StorageError(f"{key}: slow down") for key in refused}


def test_headers_that_a_store_refuses_of_many_at_once_are_asked_for_once_more_a_few_at_a_time(tmp_path):
    for number in range(3 * RETRIED_AT_ONCE):
        write_image(tmp_path / f"{number:02d}.png")
    source = BusyStorage(str(tmp_path))
    problems = {entry.key: entry.problem for entry in discover(source, list_images(source))}
    assert problems == {f"{number:02d}.png": "" for number in range(3 * RETRIED_AT_ONCE)} | {
        "03.png": "03.png: slow down"
    }


def test_whole_files_are_read_side_by_side_as_far_as_memory_wants(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400), dtype=np.uint8)
    for number in range(7):
        # Without the directory, behind the pixels.
        Image.fromarray(noise).save(tmp_path / f"{number}.tif", compression="tiff_lzw")
    size = (tmp_path / "0.tif").stat().st_size
    together = []

    @dataclass(frozen=True)
    class Watched(Storage):
        def read_many(self, keys: Iterable[str], *, end: int | None = None) -> dict[str, bytes | StorageError]:
            together.append((end, len(keys)))
            return super().read_many(keys, end=end)

    source = Watched(str(tmp_path))
    for most, groups in ((3 * size, [3, 3, 1]), (size - 1, [1] * 7)):
        together.clear()
        monkeypatch.setattr(tasks.headers, "BYTES_READ_AT_ONCE", most)
        entries = discover(source, list_images(source))
        assert [(entry.index, entry.height) for entry in entries] == [(number, 300) for number in range(7)]
        assert [count for end, count in together if end is None] == groups


def test_a_file_larger_than_any_image_is_refused_and_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks.decoding, "MAX_BYTES", 10**6)
    write_image(tmp_path / "a.png")
    (tmp_path / "b.tif").write_bytes(b"II*\0" + bytes(2 * 10**6))
    source = CountedStorage(str(tmp_path))
    small, large = discover(source, list_images(source))
    assert (small.problem, large.problem) == (
        "",
        "file has 0.002 GB, over the limit of 0.001: cut it into parts, or scale it down",
    )
    assert {key for key, _ in source.reads} == {"a.png"}
