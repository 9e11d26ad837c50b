"""A command with one input, which says what to do where a shell has made several of a pattern."""

from typing import Any

from typer.core import TyperCommand


class OneInputCommand(TyperCommand):
    """Takes one input; an error at more of them tells how to give a pattern."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As every command's, but for the words of that error."""
        ctx.allow_extra_args = True
        further = super().parse_args(ctx, args)
        if further and not ctx.resilient_parsing:
            ctx.fail(
                f"one INPUT is taken, and {further[0]!r} comes after it: give the folder, or a pattern in quotes, as "
                "'night/*.png', which the shell would expand otherwise"
            )
        return further
