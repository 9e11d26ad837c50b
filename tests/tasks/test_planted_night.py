import shutil

import numpy as np
import pytest
from PIL import Image

import tasks.planted_night
from ssdnet_core.errors import InvalidImageError
from ssdnet_core.synthetic import TEXTURE_KINDS, sample
from tasks.discovery import NothingToInspectError, list_images
from tasks.labelled_image import OtherImagesError
from tasks.planted_night import write_planted_night
from tasks.sample_night import write_sample_night
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tasks.truth import IMAGES_PATTERN, MvtecTruth, truth_key
from tests.tasks.good_photographs import write_photographs


@pytest.fixture
def photographs(tmp_path):
    return write_photographs(tmp_path / "good")


def test_each_photograph_is_written_as_it_is_and_with_three_different_defects(photographs, tmp_path):
    folder = Storage(str(tmp_path / "night"))
    assert write_planted_night(folder, str(photographs)) == (24, 18)
    images = list_images(folder, IMAGES_PATTERN)
    assert len(images) == 24
    by_photograph = {}
    for image in images:
        category, _, kind, name = image.key.split("/")
        by_photograph.setdefault((category, name.split("_")[1]), []).append(kind)
        written = np.asarray(Image.open(tmp_path / "night" / image.key))
        source = Image.open(photographs / category / f"{name.split('_')[1]}.png")
        if source.mode != "I;16":
            good = np.asarray(source)
            assert written.shape == good.shape
            changed = (written != good).reshape(96, 112, -1).any(axis=2)
            mask = truth_key(image.key)
            assert (
                not changed[~(np.asarray(Image.open(tmp_path / "night" / mask)) > 0)].any()
                if mask
                else not changed.any()
            )
    assert len(by_photograph) == 6
    assert all(len(set(kinds)) == 4 and "good" in kinds for kinds in by_photograph.values())


def test_a_defect_that_does_not_show_beside_the_surface_is_planted_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "good").mkdir()
    for number in range(6):
        pixels = sample("weave", "none", size=(96, 96), seed=number).pixels
        pixels[:, 40:] = 0
        Image.fromarray(pixels).save(tmp_path / "good" / f"{number}.png")
    tried, planted = [], tasks.planted_night.plant

    def counted(*arguments, seed):
        tried.append(seed)
        return planted(*arguments, seed=seed)

    monkeypatch.setattr(tasks.planted_night, "plant", counted)
    folder = Storage(str(tmp_path / "night"))
    assert write_planted_night(folder, str(tmp_path / "good"), images=42) == (42, 36)
    assert len(tried) > 42
    masks = MvtecTruth(folder).objects()
    assert len(masks) == 36
    assert all(np.asarray(Image.open(tmp_path / "night" / mask.key)).any() for mask in masks)


def test_a_kind_of_defect_that_shows_nowhere_is_another_one_and_the_same_command_makes_the_sample_again(tmp_path):
    pixels = np.zeros((96, 96, 3), dtype=np.uint8)
    pixels[:3, :3] = 90
    (tmp_path / "good").mkdir()
    Image.fromarray(pixels).save(tmp_path / "good" / "black.png")
    folder = Storage(str(tmp_path / "night"))
    # Of seven, one is as it is, and each kind of defect is wanted once.
    assert write_planted_night(folder, str(tmp_path / "good"), images=7) == (7, 6)
    kinds = sorted(image.key.split("/")[2] for image in list_images(folder, IMAGES_PATTERN))
    assert len(kinds) == 7
    assert 1 < len(set(kinds)) < 7
    before = {stored.key: folder.read(stored.key) for stored in folder.list()}
    assert write_planted_night(folder, str(tmp_path / "good"), images=7) == (7, 6)
    assert {stored.key: folder.read(stored.key) for stored in folder.list()} == before


def test_a_photograph_that_is_black_all_over_is_named_before_anything_is_written(photographs, tmp_path):
    Image.fromarray(np.zeros((96, 96), dtype=np.uint8)).save(photographs / "weave" / "black.png")
    folder = Storage(str(tmp_path / "night"))
    with pytest.raises(InvalidImageError, match=r"nothing was written.*\n.*black\.png: .* black all over"):
        write_planted_night(folder, str(photographs))
    assert not folder.exists()


def test_folders_of_one_name_below_others_are_surfaces_of_their_own(photographs, tmp_path):
    for line in ("line-1", "line-2"):
        shutil.copytree(photographs / "weave", tmp_path / "lines" / line / "cloth")
    folder = Storage(str(tmp_path / "night"))
    write_planted_night(folder, str(tmp_path / "lines"), images=24)
    keys = [image.key for image in list_images(folder, IMAGES_PATTERN)]
    assert len(keys) == 24
    assert {MvtecTruth(folder).category(key) for key in keys} == {"line-1/cloth", "line-2/cloth"}
    assert {truth_key(key) for key in keys} - {None} == {mask.key for mask in MvtecTruth(folder).objects()}


@pytest.mark.parametrize("images", [2, 3, 5, 6, 7, 12, 13])
def test_however_few_images_some_are_good_and_some_have_a_defect(photographs, tmp_path, images):
    planted = Storage(str(tmp_path / "planted"))
    written, defective = write_planted_night(planted, str(photographs), images=images)
    assert written == images
    assert images // 2 <= defective < images
    assert images // 2 <= write_sample_night(Storage(str(tmp_path / "made")), images=images) < images
    for folder in ("planted", "made"):
        listed = list_images(Storage(str(tmp_path / folder)), IMAGES_PATTERN)
        assert len(listed) == images
        assert 0 < sum(truth_key(image.key) is None for image in listed) < images


def test_few_images_are_of_photographs_of_all_folders(photographs, tmp_path):
    folder = Storage(str(tmp_path / "night"))
    write_planted_night(folder, str(photographs), images=4)
    truth = MvtecTruth(folder)
    keys = [image.key for image in list_images(folder, IMAGES_PATTERN)]
    assert sorted(map(truth.category, keys)) == sorted(2 * list(TEXTURE_KINDS[:2]))


def test_a_single_image_is_a_good_one(photographs, tmp_path):
    assert write_planted_night(Storage(str(tmp_path / "planted")), str(photographs), images=1) == (1, 0)
    assert write_sample_night(Storage(str(tmp_path / "made")), images=1) == 0


def test_what_was_written_among_the_photographs_is_none_of_them(photographs):
    for _ in range(2):
        assert write_planted_night(Storage(str(photographs / "night")), str(photographs)) == (24, 18)


def test_defective_images_of_an_earlier_sample_are_not_taken_for_good_photographs(photographs, tmp_path):
    write_planted_night(Storage(str(photographs / "first")), str(photographs))
    with pytest.raises(OtherImagesError, match=r"18 lie in folders of defective images.*first/.*/test/.*good ones"):
        write_planted_night(Storage(str(tmp_path / "second")), str(photographs))
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("above", [".", ".."])
def test_no_sample_is_written_where_the_good_photographs_lie(photographs, tmp_path, above):
    with pytest.raises(OtherImagesError, match=r"the photographs of .*good lie in .*: take another folder"):
        write_planted_night(Storage(str((photographs / above).resolve())), str(photographs))
    assert not list(tmp_path.rglob("ground_truth"))


@pytest.mark.parametrize(("size", "reason"), [((40, 96), "96 x 40"), (None, "broken.png")])
def test_a_photograph_of_no_use_is_named_with_the_reason(photographs, tmp_path, size, reason):
    file = photographs / "broken.png"
    if size:
        Image.fromarray(np.zeros(size, np.uint8)).save(file)
    else:
        file.write_bytes(b"no image")
    with pytest.raises(InvalidImageError, match=reason) as told:
        write_planted_night(Storage(str(tmp_path / "night")), str(photographs))
    assert str(file) in str(told.value)
    # Half a sample would look whole, and be another one once the photograph is taken out.
    assert not (tmp_path / "night").exists()
    file.unlink()
    assert write_planted_night(Storage(str(tmp_path / "night")), str(photographs)) == (24, 18)


def test_all_photographs_of_no_use_are_named_at_once(photographs, tmp_path):
    for name in ("a.png", "b.png"):
        (photographs / name).write_bytes(b"no image")
    with pytest.raises(InvalidImageError, match=r"(?s)2 of \d+ photographs.*a\.png: .*b\.png: "):
        write_planted_night(Storage(str(tmp_path / "night")), str(photographs))


def test_a_folder_without_photographs_is_an_error(tmp_path):
    with pytest.raises(NothingToInspectError):
        write_planted_night(Storage(str(tmp_path / "night")), str(tmp_path))


def test_a_folder_that_cannot_be_written_is_no_fault_of_a_photograph(photographs, tmp_path):
    (tmp_path / "night").write_text("a file")
    with pytest.raises(StorageError, match="night"):
        write_planted_night(Storage(str(tmp_path / "night")), str(photographs))


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_photographs_of_a_camera_that_saves_few_bits_in_sixteen_keep_their_grey_levels(tmp_path, bits):
    rng = np.random.default_rng(0)
    shown = {}
    for name, brightest in (("bright", 1.0), ("dark", 0.4)):
        levels = np.rint((2**bits - 1) * brightest * rng.uniform(0.2, 1.0, (64, 80))).astype(np.uint16)
        levels[0, 0] = round((2**bits - 1) * brightest)
        shown[name] = np.rint(levels * (255 / (2**bits - 1)))
        (tmp_path / "line").mkdir(exist_ok=True)
        Image.fromarray(levels).save(tmp_path / "line" / f"{name}.png")
    write_planted_night(Storage(str(tmp_path / "made")), str(tmp_path / "line"))
    for name in shown:
        [good] = (tmp_path / "made" / "line" / "test" / "good").glob(f"*_{name}_0.png")
        np.testing.assert_array_equal(np.asarray(Image.open(good)), shown[name])


@pytest.mark.parametrize(
    ("given", "category"),
    [("carpet/test/good", "carpet"), ("carpet", "carpet"), (".", "carpet"), ("carpet/test/good/*.png", "carpet")],
)
def test_good_photographs_in_mvtec_ad_layout_are_of_their_surface(tmp_path, given, category):
    folder = tmp_path / "data" / "carpet" / "test" / "good"
    folder.mkdir(parents=True)
    Image.fromarray(sample("weave", "none", size=(64, 64)).pixels).save(folder / "000.png")
    write_planted_night(Storage(str(tmp_path / "made")), str(tmp_path / "data" / given))
    assert [path.name for path in (tmp_path / "made").iterdir()] == [category]
