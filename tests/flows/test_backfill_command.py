import os
import subprocess
import sys

from flows.embedded import HEARTBEAT


def test_its_run_beats_as_often_as_the_automations_expect():
    code = (
        "from datetime import date; from flows.backfill_command import backfill_nights; day = date(2026, 11, 1)\n"
        "try: backfill_nights(day, day, last=None, at_most=1, dry_run=False, as_json=True)\n"
        "except OSError: pass\n"
        "from prefect.settings import get_current_settings; print(get_current_settings().flows.heartbeat_frequency)"
    )
    environment = {name: value for name, value in os.environ.items() if "HEARTBEAT" not in name}
    finished = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert finished.stdout.split() == [str(HEARTBEAT)], finished.stderr
