"""What prefect.yaml says, without a server."""

import yaml

from flows.backfill import backfill
from tests.conftest import ROOT


def deployments():
    return yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def lines():
    return [entry for entry in deployments() if entry["entrypoint"] == "flows/nightly.py:nightly"]


def backfills():
    return [entry for entry in deployments() if entry["entrypoint"] == "flows/backfill.py:backfill"]


def hour(schedule):
    minute, hour, *_ = schedule["cron"].split()
    return int(hour) + int(minute) / 60


def test_lines_are_entries_of_one_template():
    first, second = lines()
    differ = {key for key in first if first[key] != second[key]}
    assert (first.keys(), differ) == (second.keys(), {"name", "parameters"})
    parameters = first["parameters"], second["parameters"]
    assert {key for key in parameters[0] if parameters[0][key] != parameters[1][key]} == {"line"}


def test_a_nights_schedule_is_in_the_zone_that_its_day_is_found_in_and_off_at_first():
    for line in lines():
        [schedule] = line["schedules"]
        assert schedule["timezone"] == line["parameters"]["timezone"]
        assert schedule["active"] is False


def test_a_line_runs_one_night_at_a_time_and_the_next_waits():
    for line in lines():
        assert line["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


def test_a_backfill_waits_outside_the_pool_of_the_nights():
    assert len(backfills()) == 2
    for entry in backfills():
        assert entry["work_pool"]["name"] not in {line["work_pool"]["name"] for line in lines()}


def test_the_last_nights_are_caught_up_with_after_the_nights_at_the_site_and_not_at_first():
    [catch_up] = [entry for entry in backfills() if "schedules" in entry]
    [schedule] = catch_up["schedules"]
    for line in lines():
        [nightly] = line["schedules"]
        assert schedule["timezone"] == nightly["timezone"]
        assert hour(schedule) > hour(nightly)
    assert schedule["active"] is False
    assert backfill.validate_parameters(catch_up["parameters"])["last"] == 3
