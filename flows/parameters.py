"""Parameters of Prefect tasks that Prefect need not look into."""

from typing import TypeVar, cast

from prefect.utilities.annotations import quote

Value = TypeVar("Value")


def whole(value: Value) -> Value:
    """Hand a value to a task as it is; the task gets the value itself.

    Prefect goes through every field of every parameter, three times, in search of results of other tasks: of a batch of
    10,000 records that takes a minute.
    """
    return cast(Value, quote(value))
