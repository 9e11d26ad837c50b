"""Steps of a batch in this process, and another run that takes the batch over."""

import json
from dataclasses import asdict

from prefect.utilities.annotations import quote

from tasks.lease import LeaseHolder
from tasks.storage import Storage


def without_prefect(task):
    """The function of a Prefect task."""

    def plain(value):
        return value.unquote() if isinstance(value, quote) else value

    def call(*arguments, **options):
        return task.fn(*map(plain, arguments), **{name: plain(value) for name, value in options.items()})

    return call


def take_over(folder: Storage, number: int) -> None:
    other = LeaseHolder(run="r", host="another-host", pid=1, boot="b", renewed=0, started=0)
    folder.write(f"leases/{number:06d}.json", json.dumps(asdict(other)).encode())
