"""Kinds of parameters that the flows share, what is asked of them, and how large ones are passed to Prefect tasks."""

from typing import Annotated, TypeVar, cast

from prefect.utilities.annotations import quote
from pydantic import BeforeValidator, Field

from ssdnet_core.config import MAX_GROUP
from tasks.address import AddressError

Value = TypeVar("Value")


def _none_if_empty(text: Value) -> Value | None:
    return None if isinstance(text, str) and not text.strip() else text


GroupSize = Annotated[int, Field(ge=1, le=MAX_GROUP)] | None
OptionalText = Annotated[str | None, BeforeValidator(_none_if_empty)]
"""A field that was emptied in a form of the Prefect UI is sent as an empty text."""


def require_address(name: str, address: str | None) -> None:
    """Raise an :class:`AddressError` if a deployment's parameter of that name is empty, as its variable was."""
    if not address:
        raise AddressError(f"the address of the {name} is empty: set SSDNET_{name.upper()} and deploy again")


def quoted(value: Value) -> Value:
    """Mark a task's parameter as one that Prefect need not search; the task gets the value itself.

    Unmarked, Prefect goes through every field of it, three times, looking for results of other tasks: with the records
    of 10,000 images that takes a minute.
    """
    return cast(Value, quote(value))
