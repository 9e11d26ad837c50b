"""Kinds of parameters that the flows share, and how large ones are passed to Prefect tasks."""

from typing import Annotated, TypeVar, cast

from prefect.utilities.annotations import quote
from pydantic import BeforeValidator, Field

from ssdnet_core.config import MAX_GROUP

Value = TypeVar("Value")


def _none_if_empty(text: Value) -> Value | None:
    return None if isinstance(text, str) and not text.strip() else text


GroupSize = Annotated[int, Field(ge=1, le=MAX_GROUP)] | None
OptionalText = Annotated[str | None, BeforeValidator(_none_if_empty)]
"""A field that was emptied in a form of the Prefect UI is sent as an empty text."""


def quoted(value: Value) -> Value:
    """Mark a task's parameter as one that Prefect need not search; the task gets the value itself.

    Unmarked, Prefect goes through every field of it, three times, looking for results of other tasks: with the records
    of 10,000 images that takes a minute.
    """
    return cast(Value, quote(value))
