"""Which device computes, and with which arithmetic."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from ssdnet_core.errors import DeviceUnavailableError


def resolve_device(name: str) -> torch.device:
    """Return the device for ``auto | cpu | mps | cuda | cuda:N``; auto prefers cuda, then mps.

    Raises
    ------
    DeviceUnavailableError
        If this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailableError(
            f"device {name!r} does not exist: this machine has {torch.cuda.device_count()} CUDA devices; "
            "set device to auto or cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceUnavailableError("device 'mps' does not exist on this machine: set device to auto or cpu")
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Return float32 or bfloat16.

    auto takes bfloat16 on CUDA from compute capability 8.0, and on x86 with AVX512-BF16 or AMX. Elsewhere it takes
    float32, whatever the hardware has: on ARM and MPS it was not tried.
    """
    if name == "auto":
        return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


@contextmanager
def callers_state_aside() -> Iterator[None]:
    """Compute without the caller's default device and autocast, whatever they are; also as a decorator.

    Both belong to the thread. A default dtype is the whole process's, and is not touched: whatever is made here names
    its own.
    """
    with ExitStack() as stack:
        # Entered only where needed: a device's context costs each of torch's functions something.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def in_double(values: Tensor) -> Tensor:
    """Return values in double precision: on their device, or on the processor where the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def stacked_on(device: torch.device, tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors of the processor on a device."""
    if device.type != "cuda":
        return torch.stack([*tensors]).to(device)
    # Through page-locked memory, which torch keeps for the next group: with fresh pages it takes ten times as long.
    shape = (len(tensors), *tensors[0].shape)
    together = torch.empty(shape, dtype=tensors[0].dtype, pin_memory=True)
    return torch.stack([*tensors], out=together).to(device, non_blocking=True)
