"""What a run of a batch came to, for whoever shows or tells it."""

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
        Where the batch's results lie.
    results, seal
        Of the finished batch.
    fitted
        Number of images that this run inspected; the others were done before.
    listing
        What the input holds, by this run.
    former_masks
        Address of the masks of the batch's previous run, empty if it had none; None if this run has the same.
    """

    folder: Storage
    results: BatchResults
    seal: Seal
    fitted: int
    listing: Listing
    former_masks: str | None = None

    @property
    def report(self) -> str:
        """Address of the gallery's page."""
        return report_address(self.folder)
