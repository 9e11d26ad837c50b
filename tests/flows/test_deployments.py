"""What prefect.yaml says, without a server."""

import yaml

from tests.conftest import ROOT


def deployments():
    return yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def lines():
    return [entry for entry in deployments() if entry["entrypoint"] == "flows/nightly.py:nightly"]


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
    [backfill] = [entry for entry in deployments() if entry["entrypoint"] == "flows/backfill.py:backfill"]
    assert backfill["work_pool"]["name"] not in {line["work_pool"]["name"] for line in lines()}
