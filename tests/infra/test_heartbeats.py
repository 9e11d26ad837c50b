"""A run is taken for dead if it is silent: all that start runs must have them send heartbeats as often."""

import re
from pathlib import Path

import pytest

from flows.embedded import HEARTBEAT
from infra.automations import SILENCE

ROOT = Path(__file__).parent.parent.parent
SETTING = re.compile(r'"?PREFECT_FLOWS_HEARTBEAT_FREQUENCY"?: *"(\d+)"')
PLACES = {
    "prefect.yaml": 2,
    "infra/compose/compose.yaml": 1,
    "infra/kubernetes/settings.yaml": 1,
    "infra/local/parts.py": 1,
}


@pytest.mark.parametrize(("place", "settings"), PLACES.items())
def test_heartbeats_come_as_often_wherever_runs_start(place, settings):
    assert SETTING.findall((ROOT / place).read_text()) == [str(HEARTBEAT)] * settings


def test_a_run_is_not_taken_for_dead_between_two_heartbeats():
    assert SILENCE.total_seconds() >= 1.5 * HEARTBEAT
