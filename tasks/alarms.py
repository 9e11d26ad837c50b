"""Which alarms were raised of a batch's results: each once for them, however often the batch is run.

``RESULTS/BATCH/alarm.json`` has the digest of the results by alarm; batches that raised none have no such object. A run
that is killed after the seal has raised nothing, so the next one decides anew, from the seal.
"""

import json

from tasks.batch import ALARM
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError, StorageError
from tasks.stored_json import StoredJsonError, from_json

FAILED_IMAGES = "failed images"
OUT_OF_THE_ORDINARY = "out of the ordinary"


def was_raised(folder: Storage, alarm: str, *, digest: str) -> bool:
    """Whether an alarm of these results was raised; False where the storage does not say: rather twice than never."""
    try:
        return _raised(folder).get(alarm) == digest
    except StorageError:
        return False


def note_raised(folder: Storage, alarm: str, *, digest: str) -> None:
    """Remember that an alarm of these results was raised; earlier ones stay noted.

    Raises
    ------
    StorageError
        If earlier ones cannot be read, and so would be lost, or this one cannot be written.
    """
    folder.write(ALARM, (json.dumps({**_raised(folder), alarm: digest}) + "\n").encode())


def _raised(folder: Storage) -> dict[str, str]:
    """Return the digests by alarm; none where nothing was raised, or what was noted is damaged.

    Raises
    ------
    StorageError
        If the storage does not say.
    """
    try:
        return from_json(dict[str, str], folder.read(ALARM))
    except (MissingObjectError, StoredJsonError):
        return {}
