import os
import subprocess
import sys

import httpx
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.backfill
import flows.backfill_summary
import flows.prefect_api
from flows.backfill_command import backfill_nights
from flows.embedded import HEARTBEAT
from flows.progress import observer


def test_what_came_of_the_nights_is_returned_though_the_server_has_gone_away(monkeypatch, capsys):
    def backfill(*_, **__):
        observer().ended("the outcomes")
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(flows.backfill, "backfill", backfill)
    monkeypatch.setattr(flows.prefect_api, "check_api", lambda **_: None)
    monkeypatch.setattr(flows.backfill_summary, "print_outcomes", lambda outcomes, **_: None)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        found = backfill_nights(None, None, last=1, at_most=1, dry_run=False, as_json=True)
    assert found == "the outcomes"
    assert capsys.readouterr().err.startswith("ssdnet: this is what came of the nights, but its run's page does not ")


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
