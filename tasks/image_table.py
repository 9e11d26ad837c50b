"""The table of a batch's images for people and spreadsheets, ``images.csv``: a row each, also of those not drawn."""

import csv
import io
from collections.abc import Iterable

from tasks.batch import IMAGE_TABLE
from tasks.records import ImageRecord
from tasks.storage import Storage

COLUMNS = ("key", "score", "defective", "regions", "warnings", "error")


def write_image_table(folder: Storage, records: Iterable[ImageRecord]) -> None:
    """Write what became of each image of a batch, in the order of its records; UTF-8, with the names of the columns."""
    text = io.StringIO()
    # Lines end in CR LF (RFC 4180), so that csv quotes names that hold either.
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    for record in records:
        # Of an image that could not be inspected nothing is known: no score is another thing than one of 0.
        verdict = (f"{record.score:.6g}", str(record.defective).lower(), len(record.regions))
        judged = verdict if record.inspected else ("", "", "")
        rows.writerow((record.key, *judged, "; ".join(record.warnings), record.error))
    folder.write(IMAGE_TABLE, text.getvalue().encode())
