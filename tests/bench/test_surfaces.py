import sys
import zipfile
from io import BytesIO

import pytest
from PIL import Image


@pytest.fixture
def games(tmp_path):
    """A folder of games in which every photograph of the list is a small picture, and the list."""
    from surfaces import listed

    photographs = listed()
    for photograph in photographs:
        place = tmp_path / photograph.archive
        picture = BytesIO()
        kind = {"jpg": "JPEG", "tga": "TGA", "png": "PNG"}[photograph.member.rsplit(".", 1)[1]]
        Image.new("RGB", (8, 8), (200, 10, 30)).save(picture, kind)
        if photograph.archive.endswith(".pk3"):
            place.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(place, "a") as archive:
                archive.writestr(photograph.member, picture.getvalue())
        else:
            (place / photograph.member).parent.mkdir(parents=True, exist_ok=True)
            (place / photograph.member).write_bytes(picture.getvalue())
    return tmp_path, photographs


def run(monkeypatch, *options):
    from surfaces import main

    monkeypatch.setattr(sys, "argv", ["surfaces.py", *map(str, options)])
    main()


def test_every_photograph_of_the_list_is_collected_once_below_its_kind(games, tmp_path, monkeypatch):
    folder, photographs = games
    run(monkeypatch, "--games", folder, "--out", tmp_path / "out")
    written = sorted((tmp_path / "out").rglob("*.*"))
    assert len(written) == len(photographs) == len({(one.package, one.member) for one in photographs})
    assert {path.parent.name for path in written} == {one.kind for one in photographs}
    assert {path.suffix for path in written} == {".jpg", ".png"}
    for path in written:
        assert Image.open(path).size == (8, 8)


def test_a_folder_with_something_in_it_is_refused_and_left_as_it_is(games, tmp_path, monkeypatch):
    other = tmp_path / "out" / "own.png"
    other.parent.mkdir()
    other.write_bytes(b"mine")
    with pytest.raises(SystemExit, match="out is not empty: give a new folder"):
        run(monkeypatch, "--games", games[0], "--out", other.parent)
    assert list(other.parent.iterdir()) == [other]


def test_a_package_that_is_not_installed_is_named_and_nothing_is_written(games, tmp_path, monkeypatch):
    folder, photographs = games
    last = photographs[-1]
    with pytest.raises(SystemExit, match="install"):
        run(monkeypatch, "--games", folder / "elsewhere", "--out", tmp_path / "out")
    (folder / last.archive).rename(folder / "moved")
    with pytest.raises(SystemExit, match=f"install Debian's {last.package}"):
        run(monkeypatch, "--games", folder, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
