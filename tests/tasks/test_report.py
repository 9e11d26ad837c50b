import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import fsspec
import numpy as np
import pytest
from PIL import Image

from ssdnet_core.config import Config
from ssdnet_core.regions import Region
from ssdnet_core.synthetic import sample
from tasks.batch_results import BatchResults
from tasks.manifest import joint_etag
from tasks.maps import write_map
from tasks.pictures import colour_bar, photograph
from tasks.records import ImageRecord, failed_record
from tasks.report import _picture_names, overlay_key, write_report
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tests.browser import browser, opened
from tests.tasks.prepared import founded

EVIL = "<img src=x onerror=alert(1)>&\"'.png"


class Page(HTMLParser):
    """The tags and attributes of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def page_of(folder):
    return folder.read("report/index.html").decode()


def inspected(folder, entry):
    """Return the record of an image of 96 x 64 whose map is stored, defective if it has the evil name."""
    evil = entry.key == EVIL
    region = Region(top=1, left=2, bottom=30, right=40, area=50, peak=20.0, centroid=(3.0, 4.0))
    digest = write_map(folder, entry.index, anomaly_map=np.full((64, 96), 20.0 if evil else 2.0, dtype=np.float32))
    return replace(
        ImageRecord(
            index=entry.index,
            key=entry.key,
            etag=entry.etag,
            fingerprint="f",
            status="inspected",
            map_digest=digest,
        ),
        score=7.0 if evil else -0.5,
        defective=evil,
        regions=(region,) if evil else (),
        regions_from=7.1,
        height=64,
        width=96,
        working_height=64,
        working_width=96,
    )


@pytest.fixture
def night(tmp_path):
    """The folder, the manifest and the records of three images, the second of an evil name, the third broken."""
    night = tmp_path / "night"
    night.mkdir()
    for number, name in enumerate(("a.png", EVIL)):
        Image.fromarray(sample("tile", "none", size=(64, 96), seed=number).pixels).save(night / name)
    (night / "z <b>.png").write_bytes(b"<script>broken</script>")
    folder, manifest = founded(tmp_path, config=Config())
    records = {}
    for entry in manifest.entries:
        if not entry.height:
            records[entry.index] = failed_record(entry, entry.problem, fingerprint="f", lasting=True)
            continue
        records[entry.index] = inspected(folder, entry)
    return folder, manifest, records


@pytest.fixture
def drawn(night):
    """The folder of their report, and its page."""
    folder, manifest, records = night
    write_report(folder, BatchResults(manifest, records))
    return folder, Page(page_of(folder)), page_of(folder)


def test_file_names_are_shown_and_never_run(drawn):
    _, page, text = drawn
    assert all("onerror" not in attributes for attributes in page.of("img"))
    assert "<script>broken" not in text
    assert "&lt;img src=x" in text
    assert "z &lt;b&gt;.png" in text


def test_the_page_links_to_nothing_outside(drawn):
    folder, page, _ = drawn
    links = [a.get("src") or a.get("href") for _, a in page.tags if a.get("src") or a.get("href")]
    assert links.count("../images.csv") == 1, "beside the report, where the run writes it"
    for link in links:
        assert link == "../images.csv" or folder.exists(f"report/{link}"), link


def test_the_page_tells_the_settings_in_words(night):
    folder, manifest, records = night
    write_report(folder, BatchResults(manifest, records))
    assert f"· default settings (fingerprint {manifest.fingerprint})" in page_of(folder)


def test_the_worst_comes_first_with_its_region_drawn(drawn):
    _, page, _ = drawn
    assert [figure["data-defective"] for figure in page.of("figure")] == ["True", "False"]
    [box] = page.of("rect")
    assert (box["x"], box["y"], box["width"], box["height"]) == ("2", "1", "38", "29")


VERDICTS = "[...document.querySelectorAll('figure strong')].map(verdict => verdict.innerText)"


@pytest.mark.slow
def test_the_gallery_shows_which_images_another_threshold_would_call_defective(night, tmp_path):
    folder, manifest, records = night
    [evil] = [index for index, record in records.items() if record.key == EVIL]
    records[evil] = replace(records[evil], score=3.04)
    write_report(folder, BatchResults(manifest, records))
    page_file = tmp_path / "results" / "report" / "index.html"
    with browser(tmp_path / "profile") as devtools, opened(devtools, page_file.as_uri()) as page:
        page.wait_for_text("1.0, as inspected", timeout=20)
        assert page.value(VERDICTS) == ["defective", "good"]
        for threshold, told, verdicts in (
            (3, "3.0: 1 of 2 images · verdict.expected_false_alarms=0.001", ["defective", "good"]),
            (3.1, "3.1: 0 of 2 images · verdict.expected_false_alarms=0.00079", ["good", "good"]),
            (-1, "-1.0: 2 of 2 images · verdict.expected_false_alarms=10", ["defective", "defective"]),
        ):
            page.set("threshold", threshold)
            page.wait_for_text(told, timeout=20)
            assert page.value(VERDICTS) == verdicts


@pytest.mark.slow
def test_on_a_phone_the_gallery_is_no_wider_than_the_window(night, tmp_path):
    folder, manifest, records = night
    entries = tuple(replace(entry, key=f"{'x' * 200}-{entry.key}") for entry in manifest.entries)
    records = {index: replace(record, key=entries[index].key) for index, record in records.items()}
    broken = next(record for record in records.values() if record.failed)
    records[broken.index] = replace(broken, error="x" * 200)
    write_report(folder, BatchResults(replace(manifest, entries=entries), records))
    page_file = tmp_path / "results" / "report" / "index.html"
    with browser(tmp_path / "profile") as devtools, opened(devtools, page_file.as_uri()) as page:
        page.ask("Emulation.setDeviceMetricsOverride", width=375, height=900, deviceScaleFactor=1, mobile=False)
        page.wait_for_text("as inspected", timeout=20)
        page.set("threshold", 3.1)
        page.wait_for_text("0.00079", timeout=20)
        assert page.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_no_other_threshold_is_offered_where_a_verdict_asks_for_an_area(night):
    folder, manifest, records = night
    larger = replace(manifest, config=manifest.config.updated({"verdict.min_area": 2}))
    write_report(folder, BatchResults(larger, records))
    assert "as inspected" not in page_of(folder)


def test_another_map_has_a_picture_of_another_name_and_the_former_one_is_deleted(night):
    folder, manifest, records = night
    write_report(folder, BatchResults(manifest, records))
    [former] = [record for record in records.values() if record.key == "a.png"]
    digest = write_map(folder, former.index, anomaly_map=np.full((64, 96), 3.0, dtype=np.float32))
    assert digest[:8] != former.map_digest[:8]
    write_report(folder, BatchResults(manifest, records | {former.index: replace(former, map_digest=digest)}))
    maps = [entry.key for entry in folder.below("report/images").list(f"{former.index:07d}-*-map.png")]
    assert maps == [f"{former.index:07d}-{digest[:8]}-map.png"]
    assert maps[0] in page_of(folder)


@pytest.mark.parametrize("level", [7.7, 15.4])
def test_a_colour_means_the_same_beside_each_images_own_alarm_level(night, level):
    folder, manifest, records = night
    values = level * np.repeat(np.array([0.49, 1.0, 2.0], dtype=np.float32), 32)[None].repeat(64, axis=0)
    [index] = [index for index, record in records.items() if record.key == "a.png"]
    digest = write_map(folder, index, anomaly_map=values)
    records[index] = replace(records[index], regions_from=level, map_digest=digest)
    write_report(folder, BatchResults(manifest, records))
    with Image.open(io.BytesIO(folder.read(f"report/images/{index:07d}-{digest[:8]}-map.png"))) as layer:
        below, at, twice = np.asarray(layer)[32, 16::32].astype(int)
    scale = [re.findall(r"[\d.]+", colour) for colour in colour_bar()]
    a_third_of_the_way = np.mean([[int(value) for value in colour[:3]] for colour in scale[2:4]], axis=0)
    assert below[3] == 0, "what is far below an alarm is not coloured at all"
    np.testing.assert_allclose(at[:3], a_third_of_the_way, atol=30)
    assert 0 < at[3] < twice[3]
    assert list(twice[:3]) == [int(value) for value in scale[-1][:3]]
    page = page_of(folder)
    assert f"alarm level {level}" in page
    assert "left: 33.3%" in page, "where the scale is marked"


def test_sixteen_bit_photographs_are_shown_in_their_own_contrast():
    twelve_bits = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    shown = np.asarray(Image.open(io.BytesIO(photograph(twelve_bits))))
    assert shown.min() < 20
    assert shown.max() > 235


def test_a_long_strip_is_shown_at_a_readable_size():
    with Image.open(io.BytesIO(photograph(np.zeros((256, 4096, 3), dtype=np.uint8)))) as picture:
        assert picture.size == (1024, 64)


def test_the_worst_stand_as_one_file_each_with_map_and_regions_drawn(drawn):
    folder, page, _ = drawn
    [evil, good] = (figure["id"].removeprefix("image-") for figure in page.of("figure"))
    record = ImageRecord(index=int(evil), key="", etag="", fingerprint="", status="inspected")
    with Image.open(io.BytesIO(folder.read(overlay_key(record)))) as shown:
        pixels = np.asarray(shown.convert("RGB")).astype(int)
    assert pixels.shape == (64, 96, 3)
    box, plain = pixels[1, 10:35].mean(axis=0), pixels[45, 50:75].mean(axis=0)
    assert box[2] - box[0] > 60, "the region's edge is cyan"
    assert plain[0] > plain[2] + 50, "the map's highest colour is yellow"
    assert folder.exists(f"report/worst/{int(good):07d}.jpg")


def pictures_of(record):
    """Where the pictures of an image lie of which nothing was left out."""
    heat, whole, _ = _picture_names(record)
    return {f"report/{heat}", f"report/{whole}"}


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def kept(request, night, tmp_path):
    """The night, with its results in a folder or a bucket."""
    folder, manifest, records = night
    if request.param == "folder":
        return night
    request.getfixturevalue("s3_server")
    fsspec.filesystem("s3").makedirs("galleries", exist_ok=True)
    bucket = Storage(f"s3://galleries/{tmp_path.name}")
    for stored in folder.list():
        bucket.write(stored.key, folder.read(stored.key))
    return bucket, manifest, records


def test_only_pictures_of_images_that_are_no_longer_there_or_among_the_worst_are_deleted(kept):
    folder, manifest, records = kept
    write_report(folder, BatchResults(manifest, records))
    others = ("report/worst.jpg", "report/worst-of-all/9.jpg", "worst/9.jpg", "report/images/mine.png")
    for key in ("report/worst/0000009.jpg", *others):
        folder.write(key, b"picture")
    before = {stored.key for stored in folder.list()}
    [evil] = [record for record in records.values() if record.key == EVIL]
    retried = {
        **records,
        evil.index: failed_record(manifest.entries[evil.index], "broken", fingerprint="f", lasting=True),
    }
    write_report(folder, BatchResults(manifest, retried))
    gone = {"report/worst/0000009.jpg", overlay_key(evil), *pictures_of(evil)}
    assert len(gone) == 4
    assert {stored.key for stored in folder.list()} == before - gone


def test_of_an_image_that_was_replaced_the_former_photograph_is_deleted(night):
    folder, manifest, records = night
    write_report(folder, BatchResults(manifest, records))
    before = {stored.key for stored in folder.list("report/images/*")}
    [evil] = [record for record in records.values() if record.key == EVIL]
    replaced = {**records, evil.index: replace(evil, etag="another")}
    write_report(folder, BatchResults(manifest, replaced), most_pictures=1)
    after = {stored.key for stored in folder.list("report/images/*")}
    assert before - after == {key for key in pictures_of(evil) if "-map" not in key}


def test_a_gallery_of_fewer_pictures_leaves_those_of_the_other_images(night):
    folder, manifest, records = night
    write_report(folder, BatchResults(manifest, records))
    before = {stored.key for stored in folder.list()}
    write_report(folder, BatchResults(manifest, records), most_pictures=0)
    assert {stored.key for stored in folder.list()} == before


def test_a_gallery_of_no_pictures_keeps_those_that_the_runs_page_shows(night):
    folder, manifest, records = night
    write_report(folder, BatchResults(manifest, records), most_pictures=0)
    assert not Page(page_of(folder)).of("figure")
    shown = {overlay_key(record) for record in records.values() if record.inspected}
    assert shown
    assert shown == {stored.key for stored in folder.list("report/worst/*")}


@pytest.mark.parametrize("length", [0, 500])
def test_a_photograph_that_was_copied_in_part_is_drawn_again(night, length):
    folder, manifest, records = night
    write_report(folder, BatchResults(manifest, records))
    report = folder.below("report")
    whole = {found.key: report.read(found.key) for found in report.list()}
    for key, content in whole.items():
        if key.endswith(".jpg"):
            report.write(key, content[:length])
    write_report(folder, BatchResults(manifest, records))
    assert {found.key: report.read(found.key) for found in report.list()} == whole


def test_a_gallery_without_any_picture_is_drawn(kept):
    folder, manifest, _ = kept
    failed = {e.index: failed_record(e, "broken", fingerprint="f", lasting=True) for e in manifest.entries}
    write_report(folder, BatchResults(manifest, failed))
    assert [stored.key for stored in folder.below("report").list()] == ["index.html"]


def test_pictures_that_may_not_be_deleted_keep_nobody_from_the_gallery(night, monkeypatch, caplog):
    folder, manifest, records = night
    folder.write("report/worst/0000009.jpg", b"picture")

    def refuse(storage, key):
        raise StorageError(f"cannot delete {storage.address}/{key}: access is refused")

    monkeypatch.setattr(Storage, "delete", refuse)
    write_report(folder, BatchResults(manifest, records))
    assert len(Page(page_of(folder)).of("figure")) == 2
    assert "may hold pictures that are no longer of use: cannot delete" in caplog.text


@pytest.mark.parametrize(
    ("most", "failed", "said"),
    [
        (1, True, "Pictures of 1 of 3 images, those of the highest scores."),
        (1, False, "Pictures of 1 of 2 images, those of the highest scores."),
        (2, True, "Pictures of 2 of 3 images."),
        (2, False, ""),
    ],
)
def test_the_gallery_says_of_how_many_images_it_shows_pictures(night, most, failed, said):
    folder, manifest, records = night
    if not failed:
        entries = tuple(replace(entry, present=not records[entry.index].failed) for entry in manifest.entries)
        manifest = replace(manifest, entries=entries)
    write_report(folder, BatchResults(manifest, records), most_pictures=most)
    text = " ".join(page_of(folder).split())
    assert f'<p class="shown">{said}'.removesuffix(" ") in text
    assert ("Pictures of" in text) is bool(said)


@pytest.mark.parametrize("drawn_before", [True, False])
@pytest.mark.parametrize("replaced", [(40, 30), (64, 96), None])
def test_an_image_that_is_gone_or_replaced_keeps_its_figure_and_the_photograph_if_one_was_drawn(
    night, drawn_before, replaced
):
    folder, manifest, records = night
    if drawn_before:
        write_report(folder, BatchResults(manifest, records))
    source = Storage(manifest.input)
    was = {record.key: source.read(record.key) for record in records.values()}
    source.delete(EVIL)
    if replaced:
        other = io.BytesIO()
        Image.fromarray(np.zeros(replaced, dtype=np.uint8)).save(other, "PNG")
        source.write(EVIL, other.getvalue())

    write_report(folder, BatchResults(manifest, records))

    page = Page(page_of(folder))
    assert [figure["data-defective"] for figure in page.of("figure")] == ["True", "False"]
    photographs = [image["src"] for image in page.of("img") if image["src"].endswith(".jpg")]
    assert len(photographs) == (2 if drawn_before else 1)
    assert ("the photograph or its mask is gone" in page_of(folder)) is not drawn_before
    if drawn_before:
        with Image.open(io.BytesIO(was[EVIL])) as image:
            assert folder.read(f"report/{photographs[0]}") == photograph(np.asarray(image))


@pytest.mark.parametrize("gone", [False, True])
def test_what_a_mask_left_out_is_striped_and_the_gallery_drawn_without_it_as_well(night, tmp_path, gone):
    folder, manifest, records = night
    [index] = [index for index, record in records.items() if record.key == "a.png"]
    (tmp_path / "masks").mkdir()
    white_at_the_right = np.zeros((64, 96), dtype=np.uint8)
    white_at_the_right[:, 48:] = 255
    Image.fromarray(white_at_the_right).save(tmp_path / "masks" / "a.png")
    masks = Storage(str(tmp_path / "masks"))
    etag = joint_etag(records[index].etag, masks.read_with_etag("a.png")[1])
    entries = tuple(
        replace(entry, mask="a.png", etag=etag) if entry.index == index else entry for entry in manifest.entries
    )
    masked = replace(manifest, masks=masks.address, entries=entries)
    records[index] = replace(records[index], etag=etag)
    if gone:
        masks.delete("a.png")
    write_report(folder, BatchResults(masked, records))
    page = page_of(folder)
    assert "<dt>with a mask</dt><dd>1</dd>" in page
    assert ("the photograph or its mask is gone" in page) is gone
    assert ("left out: masked" in page) is not gone
    if not gone:
        [name] = [image["src"] for image in Page(page).of("img") if image["alt"] == "a.png"]
        with Image.open(io.BytesIO(folder.read(f"report/{name}"))) as drawn:
            assert drawn.size == (96, 64)
            shown = np.asarray(drawn.convert("L"), dtype=float)
        with Image.open(io.BytesIO(Storage(manifest.input).read("a.png"))) as image:
            changed = np.abs(shown - np.asarray(image.convert("L")))
        assert changed[:, :40].mean() > 10
        assert changed[:, 56:].mean() < 5


@pytest.mark.parametrize("transparent", [False, True])
def test_the_page_tells_of_stripes_where_an_image_shown_has_some_also_once_the_images_are_gone(tmp_path, transparent):
    pixels = np.full((64, 96, 4), 200, dtype=np.uint8)
    pixels[:20, :, 3] = 0 if transparent else 255
    (tmp_path / "night").mkdir()
    Image.fromarray(pixels).save(tmp_path / "night" / "a.png")
    folder, manifest = founded(tmp_path, config=Config())
    record = inspected(folder, manifest.entries[0])
    for _ in range(2):
        write_report(folder, BatchResults(manifest, {0: record}))
        page = page_of(folder)
        assert [image["alt"] for image in Page(page).of("img")] == ["a.png", "anomaly map of a.png"]
        assert ("left out: masked, transparent or not a number" in page) is transparent
        (tmp_path / "night" / "a.png").unlink(missing_ok=True)


def test_all_images_with_warnings_are_listed_whatever_their_scores(night):
    folder, manifest, records = night
    [good] = [index for index, record in records.items() if record.key == "a.png"]
    records[good] = replace(records[good], warnings=("the image is constant",))
    write_report(folder, BatchResults(manifest, records), most_pictures=1)
    page = page_of(folder)
    assert "1 of 2 images with warnings" in page
    assert "<td>a.png</td><td>the image is constant</td>" in page
