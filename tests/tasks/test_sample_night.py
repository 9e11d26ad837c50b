import numpy as np
from PIL import Image

from tasks.discovery import list_images
from tasks.evaluation import IMAGES_PATTERN, truth_key
from tasks.sample_night import write_sample_night
from tasks.storage import Storage


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
