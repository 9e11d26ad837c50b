"""A benchmark tells the processes of a command apart."""

import pytest

from tasks.sample_night import write_sample_night
from tasks.storage import Storage
from tests.conftest import QUICK


@pytest.mark.slow
def test_a_run_has_the_time_of_its_flow_server_template_and_workers_and_of_none_where_none_was_started(tmp_path):
    from measured_run import run_measured

    write_sample_night(Storage(str(tmp_path / "night")), images=6)
    command = ["-m", "flows", "inspect", str(tmp_path / "night"), "--results", str(tmp_path / "results"), *QUICK]
    first, again = (run_measured([*command, "--workers", "2"], home=tmp_path / "prefect") for _ in range(2))
    for part in ("flow", "server", "worker template", "worker"):
        assert first.cpu[part] > 0, part
        assert first.peak[part] > 0, part
    assert "worker" not in again.cpu
