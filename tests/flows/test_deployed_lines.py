from uuid import uuid4

import pytest
from prefect.client.schemas.objects import GlobalConcurrencyLimit
from prefect.client.schemas.responses import DeploymentResponse

from flows.backfill_plan import BackfillError
from flows.deployed_lines import deployed_config, line_of

PLACES = {"line": "line-1", "images": "s3://images", "results": "s3://results", "timezone": "Europe/Madrid"}


def test_a_parameter_that_the_nightly_flow_does_not_know_is_named_before_its_runs_crash():
    assert deployed_config("nightly/line-1", {**PLACES, "config": {"border": 0.05}}).border == 0.05
    with pytest.raises(BackfillError, match=r"nightly/line-1 has a parameter preset, .* correct its name"):
        deployed_config("nightly/line-1", {**PLACES, "preset": "preview"})


@pytest.mark.parametrize(("active", "limit"), [(True, 2), (False, None)])
def test_a_limit_that_is_switched_off_limits_nothing(active, limit):
    deployment = DeploymentResponse(
        id=uuid4(),
        name="line-1",
        flow_id=uuid4(),
        parameters=PLACES,
        global_concurrency_limit=GlobalConcurrencyLimit(name="l", limit=2, active=active),
    )
    assert line_of("nightly/line-1", deployment).limit == limit


@pytest.mark.parametrize("wrong", [{"images": "gs://images"}, {"timezone": "Mars/Base"}])
def test_an_address_or_a_time_zone_that_is_none_is_the_fault_of_its_deployment_alone(wrong):
    with pytest.raises(BackfillError, match="the settings of deployment nightly/line-1"):
        deployed_config("nightly/line-1", {**PLACES, **wrong})
