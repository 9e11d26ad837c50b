"""What holds of recordings without a GPU; test_cuda.py has the rest."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ssdnet_core import replay
from ssdnet_core.replay import Replayed


class NoStream:
    def wait_stream(self, other):
        pass


class NoGraph:
    def capture_begin(self, *, capture_error_mode):
        pass

    def capture_end(self):
        pass

    def replay(self):
        pass


@pytest.fixture
def without_cuda(monkeypatch):
    """Recording as if there were a device: what is to be recorded is done, and nothing else."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", NoGraph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: NoStream())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(replay, "_recording_stream", lambda device: NoStream())


@pytest.mark.usefixtures("without_cuda")
def test_two_threads_never_record_at_the_same_time():
    together, happened = threading.Barrier(2), []

    def work(values):
        happened.append(("begins", threading.get_ident()))
        time.sleep(0.05)
        happened.append(("ends", threading.get_ident()))

    def record():
        together.wait(10)
        Replayed(work)(torch.zeros(1))

    with ThreadPoolExecutor(2) as threads:
        for recorded in [threads.submit(record) for _ in range(2)]:
            recorded.result()
    # The rehearsal and the recording of one, then those of the other.
    first, second = happened[0][1], happened[-1][1]
    assert first != second
    assert happened == [(what, who) for who in (first, second) for what in ("begins", "ends") * 2]


@pytest.mark.usefixtures("without_cuda")
def test_what_cannot_be_recorded_keeps_no_other_from_it():
    def fail(values):
        raise RuntimeError("cannot be recorded")

    with pytest.raises(RuntimeError, match="cannot be recorded"):
        Replayed(fail)(torch.zeros(1))
    done = []
    Replayed(lambda values: done.append(float(values)))(torch.full((), 3.0))
    assert done == [3.0, 3.0]
