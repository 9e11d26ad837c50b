"""Of which results of a night an alarm was raised: once for each, however often the night is run and compared.

``RESULTS/BATCH/alarm.json`` has their digest; nights that raised none have no such object.
"""

import json

from tasks.batch import ALARM
from tasks.storage import Storage
from tasks.storage_answers import StorageError


def was_raised(folder: Storage, digest: str) -> bool:
    """Whether an alarm of these results was raised; False where the storage does not say: rather twice than never."""
    try:
        return bool(json.loads(folder.read(ALARM))["digest"] == digest)
    except (StorageError, ValueError, LookupError, TypeError):
        return False


def note_raised(folder: Storage, digest: str) -> None:
    """Remember that an alarm of these results was raised."""
    folder.write(ALARM, (json.dumps({"digest": digest}) + "\n").encode())
