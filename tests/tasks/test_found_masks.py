import os

import pytest

from tasks.discovery import list_images
from tasks.found_masks import MasksError, find_masks
from tasks.storage import Storage
from tasks.storage_answers import StorageError
from tests.tasks.small_images import write_image


def masks_found(tmp_path, *masks, images):
    (tmp_path / "masks").mkdir()
    for name in images:
        write_image(tmp_path / "night" / name)
    for name in masks:
        write_image(tmp_path / "masks" / name)
    source = Storage(str(tmp_path / "night"))
    found = find_masks(list_images(source), Storage(str(tmp_path / "masks")), source=source)
    assert set(found.others) == {*masks} - {mask.key for mask in found.of_images.values()}
    return {image: mask.key for image, mask in found.of_images.items()}


def test_a_mask_of_the_very_name_comes_before_one_of_another_suffix(tmp_path):
    found = masks_found(tmp_path, "a.jpg", "a.png", "b/c.tif", images=["a.jpg", "a.png", "b/c.bmp", "d.png"])
    assert found == {"a.jpg": "a.jpg", "a.png": "a.png", "b/c.bmp": "b/c.tif"}


def test_masks_of_no_image_are_named_beside_those_of_images(tmp_path):
    for name in ("night/a.png", "night/b.png", "masks/a.png", "masks/deep/b.png", "masks/B.png", "masks/._a.png"):
        write_image(tmp_path / name)
    night = Storage(str(tmp_path / "night"))
    found = find_masks(list_images(night), Storage(str(tmp_path / "masks")), source=night)
    assert (set(found.of_images), found.others) == ({"a.png"}, ("B.png", "deep/b.png"))


def test_two_masks_of_other_suffixes_are_refused_by_name(tmp_path):
    with pytest.raises(MasksError, match=r"a\.png has several masks in .*a\.bmp and a\.jpg"):
        masks_found(tmp_path, "a.jpg", "a.bmp", images=["a.png"])


@pytest.mark.parametrize("masks", [[], ["b.png"], ["night/a.png"]])
def test_masks_of_which_none_is_of_an_image_are_refused(tmp_path, masks):
    with pytest.raises(MasksError, match=rf"the image has no mask in .*/masks, which holds {len(masks)} mask"):
        masks_found(tmp_path, *masks, images=["a.png"])


def test_images_are_no_masks_of_themselves(tmp_path):
    write_image(tmp_path / "a.png")
    here = Storage(str(tmp_path))
    with pytest.raises(MasksError, match="are the images themselves"):
        find_masks(list_images(here), here, source=here)


def test_masks_of_the_size_and_time_of_their_images_are_told_from_them(tmp_path):
    night, masks = Storage(str(tmp_path / "night")), Storage(str(tmp_path / "masks"))
    for storage, content in ((night, b"image"), (masks, b"black")):
        storage.write("a.bmp", content)
        os.utime(storage.path("a.bmp"), (0, 0))
    assert find_masks(list_images(night), masks, source=night).others == ()


def test_a_single_mask_is_no_folder_of_masks(tmp_path):
    image = write_image(tmp_path / "a.png")
    here = Storage(str(tmp_path))
    with pytest.raises(StorageError, match=r"/a\.png.*a part of this path is a file"):
        find_masks(list_images(here), Storage(str(image)), source=here)


def test_a_folder_of_masks_that_is_not_there_is_named(tmp_path):
    write_image(tmp_path / "a.png")
    here = Storage(str(tmp_path))
    with pytest.raises(StorageError, match="nowhere"):
        find_masks(list_images(here), Storage(str(tmp_path / "nowhere")), source=here)
