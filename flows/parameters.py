"""A parameter that all flows have, and how large parameters are passed to Prefect tasks."""

from typing import Annotated, TypeVar, cast

from prefect.utilities.annotations import quote
from pydantic import Field

from ssdnet_core.config import MAX_GROUP

GroupSize = Annotated[int, Field(ge=1, le=MAX_GROUP)] | None

Value = TypeVar("Value")


def quoted(value: Value) -> Value:
    """Mark a task's parameter as one that Prefect need not search; the task gets the value itself.

    Unmarked, Prefect goes through every field of it, three times, looking for results of other tasks: with the records
    of 10,000 images that takes a minute.
    """
    return cast(Value, quote(value))
