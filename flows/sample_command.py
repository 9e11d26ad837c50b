"""Images with known defects, from the command line: of made textures, or of photographs, with a progress bar."""

from rich.console import Console
from rich.progress import track

from tasks.planted_night import write_planted_night
from tasks.sample_night import write_sample_night
from tasks.storage import Storage

DEFAULT_IMAGES = 24
"""Images of made textures, if no number is given."""


def make_images(folder: Storage, photographs: str | None, *, images: int | None, seed: int) -> tuple[int, int]:
    """Write the images; return how many there are and how many of them are defective."""
    if photographs is None:
        made = images or DEFAULT_IMAGES
        return made, write_sample_night(folder, images=made, seed=seed)
    console = Console(stderr=True)
    return write_planted_night(
        folder,
        photographs,
        images=images,
        seed=seed,
        track=lambda keys, doing: track(keys, doing, console=console, disable=not console.is_terminal),
    )
