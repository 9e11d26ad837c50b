import pytest
import torch

from ssdnet_core import Config, DeviceUnavailableError, InvalidConfigError, SsdnetError
from ssdnet_core.devices import resolve_device, resolve_precision

CPU = torch.device("cpu")
BFLOAT16_NAMES = ("avx512_bf16", "amx_bf16")


def pretend(monkeypatch, *, cuda=0, mps=False, capabilities=(), compute=(8, 0)):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: compute)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(capabilities, True))


@pytest.mark.parametrize(
    ("machine", "expected"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": 1}, "cuda"), ({"cuda": 2, "mps": True}, "cuda")],
)
def test_auto_prefers_cuda_then_mps_then_the_processor(monkeypatch, machine, expected):
    pretend(monkeypatch, **machine)
    assert resolve_device("auto").type == expected


@pytest.mark.parametrize("machine", [{}, {"cuda": 2}, {"mps": True}])
def test_the_processor_is_always_there(monkeypatch, machine):
    pretend(monkeypatch, **machine)
    assert resolve_device("cpu") == CPU


def test_a_numbered_device_is_the_one_returned(monkeypatch):
    pretend(monkeypatch, cuda=2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    assert resolve_device("cuda").type == "cuda"


@pytest.mark.parametrize(("name", "cuda"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:7", 2)])
def test_a_cuda_device_that_does_not_exist_is_refused_with_what_to_change(monkeypatch, name, cuda):
    pretend(monkeypatch, cuda=cuda)
    with pytest.raises(DeviceUnavailableError, match=rf"'{name}' does not exist.* {cuda} CUDA.*auto or cpu"):
        resolve_device(name)


@pytest.mark.parametrize(
    "name", ["cuda:2", "cuda:99", "cuda:128", "cuda:256", "cuda:999", "cuda:01", "cuda:99999999999"]
)
def test_every_device_that_does_not_exist_is_refused_by_the_settings_or_here(monkeypatch, name):
    # torch keeps the number in 8 bits: cuda:128 is -128 to it, and cuda:256 is cuda:0.
    pretend(monkeypatch, cuda=2)
    try:
        allowed = Config().updated({"device": name}).device
    except InvalidConfigError:
        return
    with pytest.raises(DeviceUnavailableError, match=f"'{name}'"):
        resolve_device(allowed)


def test_mps_where_there_is_none_is_refused_with_what_to_change(monkeypatch):
    pretend(monkeypatch)
    with pytest.raises(DeviceUnavailableError, match=r"'mps' does not exist.*auto or cpu"):
        resolve_device("mps")


def test_the_error_is_a_runtime_error_of_this_project():
    assert issubclass(DeviceUnavailableError, SsdnetError)
    assert issubclass(DeviceUnavailableError, RuntimeError)


@pytest.mark.parametrize("name", BFLOAT16_NAMES)
def test_auto_takes_bfloat16_on_a_processor_that_has_it(monkeypatch, name):
    pretend(monkeypatch, capabilities=["avx2", name])
    assert resolve_precision("auto", CPU) == torch.bfloat16


@pytest.mark.parametrize("capabilities", [["avx2", "avx512_f"], ["neon", "bf16", "sve_bf16"]], ids=["x86", "ARM"])
def test_auto_takes_float32_on_a_processor_without_it_and_on_arm(monkeypatch, capabilities):
    pretend(monkeypatch, capabilities=capabilities)
    assert resolve_precision("auto", CPU) == torch.float32


@pytest.mark.parametrize(("compute", "expected"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)])
def test_auto_asks_the_graphics_card_not_the_processor(monkeypatch, compute, expected):
    pretend(monkeypatch, cuda=1, compute=compute, capabilities=() if expected == torch.bfloat16 else BFLOAT16_NAMES)
    assert resolve_precision("auto", torch.device("cuda")) == expected


def test_auto_takes_float32_on_mps(monkeypatch):
    pretend(monkeypatch, mps=True, capabilities=BFLOAT16_NAMES)
    assert resolve_precision("auto", torch.device("mps")) == torch.float32


@pytest.mark.parametrize("capabilities", [(), BFLOAT16_NAMES])
def test_a_named_precision_is_taken_whatever_the_hardware(monkeypatch, capabilities):
    pretend(monkeypatch, capabilities=capabilities)
    assert resolve_precision("float32", CPU) == torch.float32
    assert resolve_precision("bfloat16", CPU) == torch.bfloat16
