import pytest

from tasks.discovery import list_images
from tasks.labelled_image import OtherImagesError
from tasks.planted_night import write_planted_night
from tasks.sample_night import write_sample_night
from tasks.storage import Storage
from tasks.truth import IMAGES_PATTERN
from tests.tasks.good_photographs import write_photographs


@pytest.fixture
def photographs(tmp_path):
    return write_photographs(tmp_path / "good")


def test_the_same_sample_is_written_again_and_no_other_is_mixed_with_it(photographs, tmp_path):
    folder = Storage(str(tmp_path / "night"))
    for _ in range(2):
        assert write_sample_night(folder, images=6) == 4
    with pytest.raises(OtherImagesError, match=r"2 labelled images .* tile/test/hole/004.png"):
        write_sample_night(folder, images=4)
    with pytest.raises(OtherImagesError, match="6 labelled images"):
        write_planted_night(folder, str(photographs))
    assert len(list_images(folder, IMAGES_PATTERN)) == 6


@pytest.mark.parametrize("planted", [False, True])
def test_a_sample_of_another_seed_is_not_written_over(photographs, tmp_path, planted):
    folder = Storage(str(tmp_path / "night"))

    def write(seed):
        if planted:
            write_planted_night(folder, str(photographs), seed=seed)
        else:
            write_sample_night(folder, images=3, seed=seed)

    def content():
        return {entry.key: folder.read(entry.key) for entry in folder.list()}

    write(0)
    first = content()
    with pytest.raises(OtherImagesError, match=r"test/.*\.png is another image .* another seed"):
        write(1)
    assert content() == first
    write(0)
    assert content() == first


def test_an_image_that_is_cut_off_is_not_taken_for_the_samples(tmp_path):
    folder = Storage(str(tmp_path))
    write_sample_night(folder, images=1)
    (image,) = list_images(folder, IMAGES_PATTERN)
    folder.write(image.key, folder.read(image.key)[:-200])
    with pytest.raises(OtherImagesError, match="another image"):
        write_sample_night(folder, images=1)
