"""Photographs of other surfaces than those the method was made on, out of the textures of free games.

    python bench/surfaces.py --out PHOTOGRAPHS [--games /usr/share/games]

`bench/surfaces.csv` lists them: each was chosen by eye, before it was inspected, as one even surface. They belong to
Debian's nexuiz-textures, openarena-081-textures, ufoai-textures and supertuxkart-data, which must be installed, or
unpacked into one folder that ``--games`` names. Each kind of surface gets a folder below PHOTOGRAPHS. From there,

    ssdnet sample SURFACES --photographs PHOTOGRAPHS
    python bench/accuracy.py SURFACES --out OUT

plant defects into them, and measure how these are found.
"""

import argparse
import csv
import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from about import markdown_table, mistakes_told
from PIL import Image

from ssdnet_core.errors import UsageError
from tasks.decoding import SUFFIXES
from tasks.labelled_image import png

LIST = Path(__file__).with_suffix(".csv")


class MissingPhotographError(UsageError):
    """A package is not installed, or another version than that of the list."""


class OccupiedFolderError(UsageError):
    """The folder for the photographs has something in it already."""


@dataclass(frozen=True)
class Listed:
    """A photograph of the list.

    Attributes
    ----------
    kind
        Of its surface.
    package
        That it belongs to.
    archive
        A zip file or a folder, below that of all games.
    member
        Its path there.
    """

    kind: str
    package: str
    archive: str
    member: str

    def find(self, games: Path) -> Path | zipfile.Path:
        """Return where it lies below the folder of all games.

        Raises
        ------
        MissingPhotographError
            If it is not there.
        """
        place = games / self.archive
        root = zipfile.Path(place) if place.is_file() else place
        found = root.joinpath(self.member)
        if not found.is_file():
            raise MissingPhotographError(
                f"{place}/{self.member} is missing: install Debian's {self.package}, or name another folder by --games"
            )
        return found

    @property
    def name(self) -> str:
        """A name that no other photograph of the list has, without suffix."""
        return f"{self.package.split('-')[0]}_{PurePosixPath(self.member).with_suffix('').as_posix().replace('/', '_')}"


@mistakes_told()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--games", type=Path, default=Path("/usr/share/games"))
    options = parser.parse_args()
    photographs = listed()
    collect(photographs, games=options.games, out=options.out)
    print(table(photographs))


def listed() -> list[Listed]:
    """Return the photographs of `bench/surfaces.csv`."""
    with LIST.open(newline="") as file:
        return [Listed(**row) for row in csv.DictReader(file)]


def collect(photographs: Sequence[Listed], *, games: Path, out: Path) -> None:
    """Copy photographs to OUT/KIND, all or none; those in a format that is not inspected become PNG.

    Raises
    ------
    MissingPhotographError
        If one is not there.
    OccupiedFolderError
        If OUT is not empty: what else lies there would be measured, too.
    """
    if out.exists() and any(out.iterdir()):
        raise OccupiedFolderError(f"{out} is not empty: give a new folder by --out")
    places = [photograph.find(games) for photograph in photographs]
    for photograph, place in zip(photographs, places, strict=True):
        content, suffix = place.read_bytes(), PurePosixPath(photograph.member).suffix.lower()
        if suffix not in SUFFIXES:
            content, suffix = png(Image.open(io.BytesIO(content))), ".png"
        folder = out / photograph.kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{photograph.name}{suffix}").write_bytes(content)


def table(photographs: Iterable[Listed]) -> str:
    """Return the numbers of photographs of each kind, by package."""
    counts = Counter((one.kind, one.package) for one in photographs)
    kinds, packages = (sorted({pair[axis] for pair in counts}) for axis in (0, 1))
    return markdown_table(
        ["kind", *packages], [[kind, *(str(counts[kind, package]) for package in packages)] for kind in kinds]
    )


if __name__ == "__main__":
    main()
