import pytest

from flows import batch_command
from flows.batch_command import run_batch_flow
from tasks.storage import AddressError


@pytest.mark.parametrize("wrong", ["s3://AKIAKEY:hush@nights/line-1", "ftp://nights", ""])
def test_a_wrong_address_never_becomes_the_parameter_of_a_run(monkeypatch, wrong):
    monkeypatch.setattr(batch_command, "start_prefect_server", lambda: None)
    begun = []
    with pytest.raises(AddressError):
        run_batch_flow(
            lambda: begun.append("a run"),
            module="flows.inspection",
            addresses=("/in", wrong, None),
            scheduler=None,
            as_json=True,
        )
    assert begun == []
