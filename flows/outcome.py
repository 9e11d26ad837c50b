"""What a run of a batch came to, for whoever shows or tells it."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.batch_results import BatchResults
from tasks.discovery import Listing
from tasks.report import report_address
from tasks.seal import Seal
from tasks.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run of a batch came to.

    Attributes
    ----------
    folder
        Address of the batch's results.
    report
        Address of the gallery's page.
    results, seal
        Of the finished batch.
    fitted
        Number of images that this run inspected; the others were done before.
    others
        How many files of the input are no images, by suffix.
    stray_masks
        Keys of the masks that are of no image that was listed.
    former_masks
        Address of the masks of the batch's run before, empty if it had none; None if they are those of this run.
    """

    folder: str
    report: str
    results: BatchResults
    seal: Seal
    fitted: int
    others: Mapping[str, int]
    stray_masks: tuple[str, ...]
    former_masks: str | None = None

    @classmethod
    def of(
        cls,
        folder: Storage,
        results: BatchResults,
        *,
        seal: Seal,
        fitted: int,
        listing: Listing,
        former_masks: str | None,
    ) -> "Outcome":
        """Put together what a run knows at its end."""
        return cls(
            folder=folder.address,
            report=report_address(folder),
            results=results,
            seal=seal,
            fitted=fitted,
            others=listing.others,
            stray_masks=listing.masks.others,
            former_masks=former_masks,
        )
