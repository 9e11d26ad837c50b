"""How much memory a gallery takes while it is drawn."""

import io
import threading
import time
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

import tasks.fetching
import tasks.report
from ssdnet_core.config import Config
from tasks.batch_results import BatchResults
from tasks.decoding import decode
from tasks.manifest import joint_etag
from tasks.maps import write_map
from tasks.records import ImageRecord
from tasks.report import DRAWING_THREADS, drawing_bytes, write_report
from tasks.storage import Storage
from tests.tasks.peak_memory import peak_memory
from tests.tasks.prepared import founded


@pytest.fixture
def large_night(tmp_path):
    """The folder, the manifest and the records of twelve images, each of which is larger than the one before."""
    night = tmp_path / "night"
    night.mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (40 + 20 * number, 60), dtype=np.uint8)
        Image.fromarray(pixels).save(night / f"{number:02d}.png")
    folder, manifest = founded(tmp_path, config=Config())
    records = {}
    for entry in manifest.entries:
        digest = write_map(folder, entry.index, anomaly_map=np.ones((40, 60), dtype=np.float32))
        record = ImageRecord(
            index=entry.index, key=entry.key, etag=entry.etag, fingerprint="f", status="inspected", map_digest=digest
        )
        records[entry.index] = replace(
            record, height=entry.height, width=entry.width, working_height=40, working_width=60, regions_from=7.1
        )
    return folder, manifest, records


@pytest.mark.parametrize("images_together", [1, 2])
def test_images_are_drawn_side_by_side_as_long_as_their_bytes_allow(large_night, monkeypatch, images_together):
    folder, manifest, records = large_night
    needs = {entry.size: drawing_bytes(records[entry.index], size=entry.size) for entry in manifest.entries}
    bound = images_together * max(needs.values())
    monkeypatch.setattr(tasks.report, "BYTES_DRAWN_AT_ONCE", bound)
    lock, drawn, together = threading.Lock(), [], []

    def watched(data):
        with lock:
            drawn.append(needs[len(data)])
            together.append(sum(drawn))
        time.sleep(0.02)
        try:
            return decode(data)
        finally:
            with lock:
                drawn.remove(needs[len(data)])

    monkeypatch.setattr(tasks.fetching, "decode", watched)
    write_report(folder, BatchResults(manifest, records))
    assert len(together) == len(needs) == 12
    assert max(together) <= bound


def test_small_images_are_drawn_by_all_threads(large_night, monkeypatch):
    folder, manifest, records = large_night
    together = threading.Barrier(DRAWING_THREADS, timeout=60)

    def watched(data):
        together.wait()
        return decode(data)

    monkeypatch.setattr(tasks.fetching, "decode", watched)
    write_report(folder, BatchResults(manifest, records))
    assert len(folder.list("report/images/*.jpg")) == 12


def encoded(pixels, form):
    buffer = io.BytesIO()
    if form == "TIFF":
        tifffile.imwrite(buffer, pixels, photometric="rgb")
    elif pixels.dtype == np.uint16:
        buffer.write(imagecodecs.png_encode(pixels, level=1))
    else:
        Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "dtype", "channels"),
    [
        *(("PNG", np.uint8, 3), ("JPEG", np.uint8, 3), ("WEBP", np.uint8, 3), ("PNG", np.uint16, 4)),
        *(("TIFF", np.uint16, 4), ("TIFF", np.float32, 3)),
    ],
)
def test_no_photograph_takes_more_than_is_reckoned_with(tmp_path, form, dtype, channels):
    height, width = 2000, 3000
    pixels = np.random.default_rng(0).integers(0, 200, (height, width, channels)).astype(dtype)
    file = tmp_path / "image"
    file.write_bytes(encoded(pixels, form))
    ready = """
import imagecodecs, tifffile
import numpy as np
from tasks.decoding import decode
from tasks.pictures import photograph
photograph(np.zeros((64, 64, 3), dtype=np.uint16))
"""
    taken = peak_memory(f"photograph(decode(Path({str(file)!r}).read_bytes()).pixels)", after=ready)
    record = ImageRecord(index=0, key="", etag="", fingerprint="", status="inspected", height=height, width=width)
    assert taken <= drawing_bytes(record, size=file.stat().st_size)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_no_photograph_with_a_mask_takes_more_than_is_reckoned_with(tmp_path, channels):
    height, width = 2000, 3000
    pixels = np.random.default_rng(0).integers(0, 200, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    mask = np.zeros((height, width, channels), dtype=np.uint8).squeeze()
    mask[500:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    ready = """
import numpy as np
from tasks.fetching import decode_as_listed
from tasks.pictures import photograph
from tasks.storage import Storage
photograph(np.zeros((64, 64, 3), dtype=np.uint8), np.ones((64, 64), dtype=bool))
"""
    folder = Storage(str(tmp_path))
    etag = joint_etag(*(folder.read_with_etag(name)[1] for name in ("image.png", "mask.png")))
    both = f"'image.png', Storage({str(tmp_path)!r}), mask='mask.png', masks=Storage({str(tmp_path)!r}), etag={etag!r}"
    taken = peak_memory(f"image, out = decode_as_listed({both}); photograph(image.pixels, out)", after=ready)
    record = ImageRecord(index=0, key="", etag="", fingerprint="", status="inspected", height=height, width=width)
    assert taken <= drawing_bytes(record, size=(tmp_path / "image.png").stat().st_size)
