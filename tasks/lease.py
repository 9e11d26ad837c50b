"""One run of a batch at a time: a lease that a second run sees, and that a killed run loses.

Leases are numbered objects, each created by a conditional write; the highest number holds. To take over a stale lease
is to create the next number, which only one of many takers can do. The holder renews its own object; one that finds a
higher number has lost the batch and stops.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from ssdnet_core.errors import SsdnetError
from tasks.batch import LEASES
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError, StorageError
from tasks.stored_json import StoredJsonError, from_json, to_json

_log = logging.getLogger(__name__)

RENEWED_EVERY = 10.0
RELEASED_WITHIN = 10.0
STALE_AFTER = 60.0
UNRELEASED = "the lease of this batch could not be released, and is free once this process has ended: %s"
ENDED = (b"Z", b"X", psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
"""States of a process that has ended, but whose parent has not taken note yet."""


class BatchBusyError(SsdnetError):
    """Another run is at work on this batch."""


class LeaseLostError(SsdnetError):
    """Another run took this batch over, since this one did not renew its lease in time."""


@dataclass(frozen=True, kw_only=True)
class LeaseHolder:
    """Who holds a batch: a run's id, its process, and when it was last heard of (seconds since the epoch).

    ``started`` tells the process from a later one of the same id.
    """

    run: str
    host: str
    pid: int
    boot: str
    renewed: float
    started: float
    released: bool = False

    @property
    def gone(self) -> bool | None:
        """Whether this holder has finished, or died on this machine; None if that cannot be told from here."""
        if self.released:
            return True
        if (self.host, self.boot) == (socket.gethostname(), _boot_id()):
            try:
                started = _started(self.pid)
            except PermissionError:
                # Another account's, which is not to be seen here.
                return None
            return started != self.started
        return None


class Lease:
    """A held lease; :meth:`check` raises once it is lost."""

    def __init__(self, folder: Storage, number: int, *, holder: LeaseHolder) -> None:
        self._folder = folder.below(LEASES)
        self._number = number
        self._holder = holder
        self._stopped = threading.Event()
        self._lost = threading.Event()
        self._renewer = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._renewer.start()

    def check(self) -> None:
        """Raise :class:`LeaseLostError` if another run has taken over."""
        if self._lost.is_set() or _highest(self._folder) > self._number:
            self._lost.set()
            raise LeaseLostError("another run took this batch over, since this one was not heard of: this one stops")

    def release(self) -> None:
        """Release the batch."""
        self._stopped.set()
        # The batch itself is sealed by now, or has failed for a reason of its own: nobody waits for a store that takes
        # minutes to say no.
        self._renewer.join(RELEASED_WITHIN)
        if self._renewer.is_alive():
            _log.warning(UNRELEASED, "the storage does not answer")

    def _keep(self) -> None:
        self._renew()
        if self._lost.is_set():
            return
        try:
            self._write(replace(self._holder, renewed=time.time(), released=True))
        # Any error: raised in this thread it would be lost.
        except Exception as error:  # noqa: BLE001
            _log.warning(UNRELEASED, error)

    def _renew(self) -> None:
        warned = False
        while not self._stopped.wait(RENEWED_EVERY):
            try:
                if _highest(self._folder) > self._number:
                    self._lost.set()
                    return
                self._write(replace(self._holder, renewed=time.time()))
                warned = False
            # Any error, as of a storage that is away for a moment: the next renewal may come in time. A thread that
            # ended would renew no more, and the batch would be taken from a run that goes on.
            except Exception as error:  # noqa: BLE001
                if not warned:
                    _log.warning("the lease of this batch could not be renewed, which is tried again: %s", error)
                warned = True

    def _write(self, holder: LeaseHolder) -> None:
        self._folder.write(_name(self._number), to_json(holder))


@contextmanager
def hold_batch(folder: Storage) -> Iterator[Lease]:
    """Hold a batch for the length of a ``with`` block.

    Raises
    ------
    BatchBusyError
        If another run holds it.
    StorageError
        If the store does not answer, or does not know conditional writes.
    """
    lease = _take(folder)
    try:
        yield lease
    finally:
        lease.release()


def _take(folder: Storage) -> Lease:
    leases = folder.below(LEASES)
    number = _highest(leases)
    if number:
        holder = _holder(leases, _name(number))
        if not (_silent(leases, number, holder=holder) if holder.gone is None else holder.gone):
            raise BatchBusyError(_busy(folder, holder))
    me = LeaseHolder(
        run=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        boot=_boot_id(),
        renewed=time.time(),
        started=_started(os.getpid()) or 0.0,
    )
    mine = _name(number + 1)
    if not leases.create(mine, to_json(me)):
        raise BatchBusyError(_busy(folder, None))
    if _writes_over(leases, mine, holder=me):
        # A run may have no right to delete a lease (infra/s3/policy.json).
        with suppress(StorageError):
            leases.delete(mine)
        raise StorageError(
            f"{folder.address} lies in a store that writes over what is there when asked not to (If-None-Match): two "
            "runs could have one batch at once. Keep the results in a store that knows conditional writes"
        )
    return Lease(folder, number + 1, holder=me)


def _writes_over(leases: Storage, name: str, *, holder: LeaseHolder) -> bool:
    """Whether the store writes over what is there when asked not to."""
    try:
        return leases.create(name, b"another's")
    except StorageError:
        # Nobody would renew it: others would take this run for one at work for a minute.
        with suppress(StorageError):
            leases.write(name, to_json(replace(holder, released=True)))
        raise


def _silent(leases: Storage, number: int, *, holder: LeaseHolder) -> bool:
    """Whether a holder was not heard of for a minute, and does not renew its lease now."""
    if abs(time.time() - holder.renewed) <= STALE_AFTER:
        return False
    # The clocks of two machines may differ. A holder that is at work renews its lease within this time.
    time.sleep(2 * RENEWED_EVERY)
    return _holder(leases, _name(number)) == holder


def _holder(leases: Storage, name: str) -> LeaseHolder:
    content = leases.read(name)
    try:
        return from_json(LeaseHolder, content)
    except StoredJsonError:
        # Damaged by a power cut; a holder that is at work writes it anew in a moment.
        return LeaseHolder(run="", host="", pid=0, boot="", renewed=leases.modified(name), started=0.0)


def _busy(folder: Storage, holder: LeaseHolder | None) -> str:
    who = f"process {holder.pid} on {holder.host}" if holder and holder.run else "another run"
    return (
        f"{who} is at work on {folder.address}: wait for it, or stop it "
        f"(a run that died is noticed after {STALE_AFTER:.0f} s)"
    )


def _highest(leases: Storage) -> int:
    try:
        listed = leases.list()
    except MissingObjectError:
        return 0
    return max((int(stored.key.removesuffix(".json")) for stored in listed if _is_lease(stored.key)), default=0)


def _is_lease(key: str) -> bool:
    return key.endswith(".json") and key.removesuffix(".json").isdigit()


def _name(number: int) -> str:
    return f"{number:06d}.json"


def _boot_id() -> str:
    # A process id means nothing after a restart, nor in another container of the same host name.
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    identity = boot.read_text().strip() if boot.exists() else ""
    return f"{identity}/{namespace.readlink()}" if namespace.exists() else identity


def _started(pid: int) -> float | None:
    """Return when a process began, to be compared with itself only; None if there is none, or it has ended.

    Raises
    ------
    PermissionError
        If there is one, and the system hides it from this account.
    """
    try:
        if Path("/proc/self/stat").exists():
            # Not as psutil tells it, by a clock that may be set meanwhile.
            state, *numbers = _status(pid).rpartition(b")")[2].split()
            return None if state in ENDED else int(numbers[18])
        process = psutil.Process(pid)
        return None if process.status() in ENDED else float(process.create_time())
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return None


def _status(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        # /proc may hide other accounts' processes: this raises PermissionError if there is one.
        os.kill(pid, 0)
        raise
