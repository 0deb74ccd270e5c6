"""How the command line as a whole behaves, where typer's own ways would puzzle people."""

from typing import Any

import typer
from typer.core import TyperGroup

ORDER = (
    "serve",
    "keys",
    "clients",
    "groups",
    "limits",
    "connect",
    "run",
    "usage",
    "audit",
    "prices",
    "reconcile",
    "doctor",
    "config",
    "db",
    "mock-upstream",
    "version",
)
"""Commands as they are needed one after another; those that are not named here come last."""


class Commands(TyperGroup):
    """Lists commands in their order, and says what is wrong with an option in words of ours, not of libraries."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer's Context is not public
        """All there are."""
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """As typer does it."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as wrong:
            wrong.message = _plain(wrong.message)
            raise


def _plain(message: str) -> str:
    """What pydantic found, which typer asks since 0.29, told like everything else."""
    if message.startswith(("Input should be a valid integer", "Input should be a valid number")):
        return "must be a number"
    message = message.removeprefix("Value error, ")
    return f"must {message.removeprefix('Input should ')}" if message.startswith("Input should ") else message
