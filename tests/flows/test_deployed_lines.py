import pytest

from flows.backfill_plan import BackfillError
from flows.deployed_lines import deployed_config

PLACES = {"line": "line-1", "images": "s3://images", "results": "s3://results", "timezone": "Europe/Madrid"}


def test_a_parameter_that_the_nightly_flow_does_not_know_is_named_before_its_runs_crash():
    assert deployed_config("nightly/line-1", {**PLACES, "config": {"border": 0.05}}).border == 0.05
    with pytest.raises(BackfillError, match=r"nightly/line-1 has a parameter preset, .* correct its name"):
        deployed_config("nightly/line-1", {**PLACES, "preset": "preview"})
