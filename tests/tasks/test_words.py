import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.words import shown_score


@pytest.mark.parametrize(
    ("score", "shown"),
    [(0.9987, "0.99"), (1, "1.00"), (0.29, "0.29"), (7.955, "7.95"), (-0.801, "-0.81"), (100, "100.00")],
)
def test_a_score_is_cut_off_after_two_decimals_and_never_shown_as_one_it_did_not_reach(score, shown):
    assert shown_score(score) == shown


@given(st.floats(-100, 100))
def test_a_score_is_shown_to_a_hundredth_and_no_higher_than_it_is(score):
    assert score - 0.01 < float(shown_score(score)) <= score + 1e-7
