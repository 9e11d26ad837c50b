from datetime import date

import numpy as np
import pytest
from PIL import Image

from tasks.discovery import list_images
from tasks.nights import Night
from tasks.storage import Storage
from tasks.truth import IMAGES_PATTERN, MvtecTruth, NightTruth, NoTruthError, TruthError, find_truth, truth_key
from tests.tasks.answering_s3 import run_at, s3_below_a_prefix


@pytest.mark.parametrize(
    ("key", "truth"),
    [
        ("carpet/test/hole/000.png", "carpet/ground_truth/hole/000_mask.png"),
        ("test/hole/a.b.jpg", "ground_truth/hole/a.b_mask.png"),
        ("carpet/test/good/000.png", None),
        ("carpet/test/hole/camera-2/000.png", "carpet/ground_truth/hole/camera-2/000_mask.png"),
        ("carpet/test/good/hole/000.png", None),
        ("test/carpet/test/hole/000.png", "test/carpet/ground_truth/hole/000_mask.png"),
        ("carpet/test/test/000.png", "carpet/ground_truth/test/000_mask.png"),
    ],
)
def test_the_truth_lies_where_mvtec_ad_puts_it(key, truth):
    assert truth_key(key) == truth


def test_a_key_outside_the_layout_is_named():
    for key in ("night/000.png", "test/000.png", "testing/hole/000.png"):
        with pytest.raises(TruthError, match=f"{key} is not of the form"):
            truth_key(key)


def test_the_category_is_the_folder_above_test():
    assert MvtecTruth(Storage("/data")).category("carpet/test/hole/0.png") == "carpet"
    assert MvtecTruth(Storage("/data/tile")).category("test/hole/0.png") == "tile"
    assert MvtecTruth(Storage("/data")).category("lines/carpet/test/hole/camera-2/0.png") == "lines/carpet"


def test_truth_is_found_and_its_missing_masks_are_told_where_s3_refuses_what_is_not_there():
    code = (
        "from datetime import date\n"
        "import numpy as np\n"
        "from tasks.nights import Night\n"
        "from tasks.truth import TruthError, find_truth\n"
        "truth = find_truth('s3://bucket/truth', Night('line-1', date(2026, 11, 22)))\n"
        "assert find_truth('s3://bucket/truth', Night('line-1', date(2026, 11, 23))) is None\n"
        "try:\n"
        "    truth.read('004.png', np.ones((2, 2), bool))\n"
        "except TruthError as error:\n"
        "    print(error)\n"
    )
    with s3_below_a_prefix({"truth/line-1/2026-11-22/003.png": b"drawn"}) as address:
        finished = run_at(address, code)
    assert finished.stdout == "there is no truth 004.png in s3://bucket/truth/line-1/2026-11-22\n", finished.stderr


@pytest.mark.parametrize("address", ["/data/tile/", "tile", "./tile/", "tile/../tile", "s3://tile", "s3://data/tile/"])
def test_a_category_given_by_itself_has_the_name_of_its_folder_however_it_is_written(address):
    assert MvtecTruth(Storage(address)).category("test/hole/0.png") == "tile"


def test_images_below_the_root_have_a_category_as_well():
    assert MvtecTruth(Storage("/")).category("test/hole/0.png") == "/"


def test_images_at_any_depth_below_a_kind_of_defect_are_of_the_layout(tmp_path):
    folder = Storage(str(tmp_path))
    images = ["carpet/test/hole/0.png", "carpet/test/hole/camera-2/0.png", "test/good/a/b/0.png"]
    for key in (*images, "carpet/test/0.png", "carpet/train/good/0.png", "carpet/ground_truth/hole/0_mask.png"):
        folder.write(key, b"")
    assert [image.key for image in list_images(folder, IMAGES_PATTERN)] == images


def test_the_masks_of_all_categories_are_listed_and_nothing_else(tmp_path):
    folder = Storage(str(tmp_path))
    masks = ["carpet/ground_truth/hole/0_mask.png", "tile/ground_truth/crack/0_mask.png"]
    for key in (*masks, "carpet/test/hole/0.png", "tile/ground_truth.txt"):
        folder.write(key, b"")
    assert [mask.key for mask in MvtecTruth(folder).objects()] == masks


SHAPE = (6, 8)


@pytest.fixture
def truth(tmp_path):
    return NightTruth(Storage(str(tmp_path / "2026-11-01")), "line-1")


def write(truth, name, *, shape=SHAPE, white=()):
    pixels = np.zeros(shape, dtype=np.uint8)
    for place in white:
        pixels[place] = 255
    path = f"{truth.folder.root}/{name}"
    truth.folder.write("camera/.keep", b"")
    Image.fromarray(pixels).save(path)


def test_white_is_defect_where_a_pixel_counts(truth):
    write(truth, "a.png", white=[(1, 2), (3, 4)])
    valid = np.ones(SHAPE, dtype=bool)
    valid[3, 4] = False
    found = truth.read("a.jpg", valid)
    assert list(zip(*np.nonzero(found), strict=True)) == [(1, 2)]
    assert (found.shape, found.dtype) == (SHAPE, bool)


def test_folders_below_the_night_are_kept(truth):
    write(truth, "camera/a.png", white=[(0, 0)])
    assert truth.read("camera/a.tiff", np.ones(SHAPE, dtype=bool)).any()


def test_a_black_mask_says_that_the_image_is_good(truth):
    write(truth, "a.png")
    assert not truth.read("a.png", np.ones(SHAPE, dtype=bool)).any()


def test_an_image_nobody_looked_at_has_no_truth(truth):
    write(truth, "a.png")
    with pytest.raises(TruthError, match=r"no truth b\.png in .*2026-11-01"):
        truth.read("b.png", np.ones(SHAPE, dtype=bool))


def test_a_mask_of_another_size_is_refused_with_both_sizes(truth):
    write(truth, "a.png", shape=(6, 9))
    with pytest.raises(TruthError, match=r"9 x 6 .* its image 8 x 6"):
        truth.read("a.png", np.ones(SHAPE, dtype=bool))


@pytest.mark.parametrize(("dtype", "label"), [(np.uint8, 1), (np.uint8, 127), (np.uint16, 255)])
def test_a_mask_of_labels_is_refused_and_not_taken_for_a_good_image(truth, dtype, label):
    pixels = np.zeros(SHAPE, dtype=dtype)
    pixels[1, 2] = label
    truth.folder.write("camera/.keep", b"")
    Image.fromarray(pixels).save(f"{truth.folder.root}/a.png")
    named = rf"the truth a\.png: it is {label} where it is brightest, of {np.iinfo(dtype).max}: make what it marks"
    for valid in (np.ones(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)):
        with pytest.raises(TruthError, match=named):
            truth.read("a.png", valid)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_mask_with_transparent_pixels_is_refused_and_an_opaque_one_is_not(truth, mode):
    write(truth, "a.png", white=[(1, 2)])
    path = f"{truth.folder.root}/a.png"
    opaque = Image.open(path).convert(mode)
    opaque.save(path)
    assert truth.read("a.png", np.ones(SHAPE, dtype=bool)).sum() == 1
    opaque.putpixel((0, 0), (0,) * len(mode))
    opaque.save(path)
    with pytest.raises(TruthError, match=r"the truth a\.png: it has transparent pixels: flatten it"):
        truth.read("a.png", np.ones(SHAPE, dtype=bool))


def test_a_mask_that_cannot_be_decoded_is_named(truth):
    truth.folder.write("a.png", b"no image")
    with pytest.raises(TruthError, match=r"the truth a\.png: not a PNG"):
        truth.read("a.png", np.ones(SHAPE, dtype=bool))


def test_a_night_that_nobody_has_looked_at_is_told_from_truth_that_is_nowhere(tmp_path):
    night = Night("line-1", date(2026, 11, 1))
    root = tmp_path / "truth"
    with pytest.raises(NoTruthError, match=f"no truth at {root}: .* correct the parameter truth of line 'line-1'"):
        find_truth(str(root), night)
    root.mkdir()
    assert find_truth(str(root), night) is None
    (root / "line-1" / "2026-10-31").mkdir(parents=True)
    assert find_truth(str(root), night) is None
    (root / "line-1" / "2026-11-01").mkdir()
    assert find_truth(str(root), night) == NightTruth(night.below(str(root)), "line-1")


def test_all_images_are_of_the_lines_category(truth):
    assert truth.category("camera/a.png") == "line-1"
