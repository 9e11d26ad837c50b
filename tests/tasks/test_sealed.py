import pytest

from ssdnet_core.config import Config
from tasks.batch import Manifest, open_batch
from tasks.seal import make_seal, set_seal
from tasks.sealed import find_seal
from tasks.storage import Storage

FIRST, SECOND = Config(), Config().updated({"seed": 1})


def batch(config):
    return Manifest(batch="n", input="/in", pattern="", config=config)


def sealed(results, config):
    manifest = batch(config)
    folder = open_batch(results, manifest)
    set_seal(folder, make_seal(manifest, {}))


@pytest.fixture
def results(tmp_path):
    return Storage(str(tmp_path))


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
def test_the_seal_of_the_settings_asked_for_is_found_whichever_came_first(results, order):
    for config in order:
        assert find_seal(results, "n", fingerprint=config.fingerprint()) is None
        sealed(results, config)
    for config in order:
        assert find_seal(results, "n", fingerprint=config.fingerprint()).fingerprint == config.fingerprint()


def test_a_batch_that_is_not_finished_has_no_seal(results):
    open_batch(results, batch(FIRST))
    assert find_seal(results, "n", fingerprint=FIRST.fingerprint()) is None
