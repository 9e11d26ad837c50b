import pytest

from ssdnet_core.errors import InvalidConfigError
from tasks.scheduler_address import SCHEDULER_VARIABLE, scheduler_to_use


@pytest.mark.parametrize(
    ("address", "wrong"),
    [
        ("bogus", "it names no port"),
        ("http://x:1", "http:// is no protocol of Dask's"),
        ("tcp://x", "it names no port"),
        ("tcp://x:", "it names no port"),
        ("tcp://x:port", "Port could not be cast"),
        ("tcp://x:0", "0 is no port"),
        ("tcp://:8786", "it names no host"),
        (":1", "it names no host"),
    ],
)
def test_what_is_no_address_of_a_scheduler_is_refused(address, wrong):
    with pytest.raises(InvalidConfigError, match=rf"'{address}': {wrong}.*: give tcp://host:8786 or tls://host:8786"):
        scheduler_to_use(address)


def test_an_address_that_the_environment_names_is_refused_with_the_variable(monkeypatch):
    monkeypatch.setenv(SCHEDULER_VARIABLE, "plant")
    with pytest.raises(InvalidConfigError, match=f"'plant', which {SCHEDULER_VARIABLE} names: it names no port"):
        scheduler_to_use(None)


def test_a_number_of_workers_besides_a_scheduler_is_refused_with_where_it_comes_from(monkeypatch):
    with pytest.raises(InvalidConfigError, match=r"workers = 8 .*'tcp://127\.0\.0\.1:1', which was given, .*leave out"):
        scheduler_to_use("tcp://127.0.0.1:1", workers=8)
    monkeypatch.setenv(SCHEDULER_VARIABLE, "tcp://127.0.0.1:2")
    with pytest.raises(InvalidConfigError, match=rf"'tcp://127\.0\.0\.1:2', which {SCHEDULER_VARIABLE} names"):
        scheduler_to_use(None, workers=8)
    assert scheduler_to_use(None) == "tcp://127.0.0.1:2"
    assert scheduler_to_use("tls://127.0.0.1:1") == "tls://127.0.0.1:1"
