import numpy as np
from PIL import Image

from tasks.discovery import list_images
from tasks.sample_night import write_line_night, write_sample_night
from tasks.storage import Storage
from tasks.truth import IMAGES_PATTERN, truth_key


def test_the_night_is_in_mvtec_ad_layout_with_a_mask_for_each_defect(tmp_path):
    folder = Storage(str(tmp_path))
    defective = write_sample_night(folder, images=9)
    images = list_images(folder, IMAGES_PATTERN)
    assert len(images) == 9
    masks = [key for image in images if (key := truth_key(image.key))]
    assert len(masks) == defective == 6
    for key in masks:
        assert np.asarray(Image.open(tmp_path / key)).any()


def test_a_category_of_its_own_is_found_by_the_same_pattern(tmp_path):
    write_sample_night(Storage(str(tmp_path)), images=5)
    assert len(list_images(Storage(str(tmp_path / "weave")), IMAGES_PATTERN)) == 1


def test_a_lines_night_is_one_texture_side_by_side_and_another_seed_is_another_night(tmp_path):
    for seed in (0, 1):
        write_line_night(Storage(str(tmp_path / str(seed))), images=6, seed=seed)
    names = [image.key for image in list_images(Storage(str(tmp_path / "0")))]
    assert len(names) == 6
    assert [name for name in names if name.endswith("-good.png")] == ["000-good.png", "003-good.png"]
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() != (tmp_path / "1" / name).read_bytes()
