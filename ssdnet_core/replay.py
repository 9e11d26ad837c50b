"""Work on a CUDA device that is recorded once and replayed.

Launching the hundreds of kernels of a step one by one takes a processor several times as long as they run.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from threading import Lock

import torch
from torch import Tensor

_RECORDING = Lock()
"""Held while something is recorded: all recordings share a stream, and threads would record one another's work."""


class Replayed:
    """A function of tensors, recorded at its first call as a CUDA graph.

    Parameters
    ----------
    work
        Its results must depend only on its arguments and on tensors that stay where they are in memory, and must
        overwrite earlier results: it runs once more often than it is called. It returns nothing, and neither waits for
        the device nor copies data to it.
    """

    def __init__(self, work: Callable[..., None]) -> None:
        self._work = work
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []

    def __call__(self, *inputs: Tensor) -> None:
        """Do the work; the arguments are of the same shapes and types each time."""
        if self._graph is None:
            self._graph = self._recorded(inputs)
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()

    def _recorded(self, inputs: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph:
        self._inputs = [given.clone() for given in inputs]
        graph, device = torch.cuda.CUDAGraph(), inputs[0].device
        with _RECORDING:
            stream = _recording_stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                # Libraries prepare themselves at their first call, which a recording must not contain.
                self._work(*self._inputs)
                # While recording, torch cannot release cached memory, and could run out of it.
                torch.cuda.empty_cache()
                # Other threads read and write images meanwhile: only this one is recorded.
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    self._work(*self._inputs)
                except BaseException:
                    # Ending a failed recording raises a second error, which would hide the first.
                    with suppress(RuntimeError):
                        graph.capture_end()
                    raise
                graph.capture_end()
            torch.cuda.current_stream(device).wait_stream(stream)
        return graph


@cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    # One stream for all recordings: torch keeps cached memory by stream, so with several none could use another's. It
    # must be on the arguments' device: on another device's stream nothing would be recorded.
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
