import pytest
from prefect.exceptions import ParameterTypeError

from flows.evaluation import evaluate
from flows.inspection import inspect
from flows.nightly import nightly

PLACES = {"results": "results"}
BATCH, NIGHT = {**PLACES, "input": "night"}, {**PLACES, "line": "line-1", "images": "images"}
FLOWS = [(inspect, BATCH), (evaluate, BATCH), (nightly, NIGHT)]


@pytest.mark.parametrize(("flow", "others"), FLOWS)
@pytest.mark.parametrize("group", [None, 1, 256])
def test_a_group_is_what_can_be_fitted_together(flow, others, group):
    assert flow.validate_parameters({**others, "group": group})["group"] == group


@pytest.mark.parametrize(("flow", "others"), FLOWS)
@pytest.mark.parametrize(("group", "wanted"), [(0, "greater than or equal to 1"), (257, "less than or equal to 256")])
def test_a_group_that_cannot_be_is_refused_with_what_can(flow, others, group, wanted):
    with pytest.raises(ParameterTypeError, match=f"(?s)group.*{wanted}"):
        flow.validate_parameters({**others, "group": group})


@pytest.mark.parametrize(("flow", "others"), FLOWS)
@pytest.mark.parametrize("emptied", ["", " ", None])
def test_a_field_that_was_emptied_in_the_ui_means_none(flow, others, emptied):
    named = {"masks", "scheduler", *(("truth",) if flow is nightly else ("batch",))}
    given = flow.validate_parameters({**others, **dict.fromkeys(named, emptied)})
    assert {name: given[name] for name in named} == dict.fromkeys(named)


@pytest.mark.parametrize(("flow", "others"), FLOWS)
@pytest.mark.parametrize("name", ["masks", "scheduler"])
def test_a_field_that_was_filled_in_is_what_it_says(flow, others, name):
    assert flow.validate_parameters({**others, name: "given"})[name] == "given"
