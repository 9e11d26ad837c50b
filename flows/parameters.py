"""Parameters that flows share, and parameters of Prefect tasks that Prefect need not look into."""

from typing import Annotated, TypeVar, cast

from prefect.utilities.annotations import quote
from pydantic import Field

from ssdnet_core.config import MAX_GROUP

GroupSize = Annotated[int, Field(ge=1, le=MAX_GROUP)] | None

Value = TypeVar("Value")


def whole(value: Value) -> Value:
    """Hand a value to a task as it is; the task gets the value itself.

    Prefect goes through every field of every parameter, three times, in search of results of other tasks: of a batch of
    10,000 records that takes a minute.
    """
    return cast(Value, quote(value))
