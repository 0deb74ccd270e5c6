"""Changes typer's behaviour: the order of commands, and the wording of messages about options."""

from typing import Any

import typer
from typer.core import TyperArgument, TyperGroup

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
"""Commands in the order in which people need them. Commands that are not named here come last."""


class PlainArgument(TyperArgument):
    """An argument that help shows as `CLIENT` or `[CLIENT]`; typer itself writes `{CLIENT}` and `CLIENT <str>`."""

    def get_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer's Context is not public
        """The argument in the line "Usage"."""
        name = f"{self.metavar or self.name}{'...' if self.nargs != 1 else ''}"
        return [name if self.required else f"[{name}]"]

    def display_type(self, ctx: Any) -> str:  # noqa: ANN401, ARG002
        """No type: it says nothing to a user."""
        return ""


class Commands(TyperGroup):
    """Lists commands in our order, and rewords pydantic's messages about options."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer's Context is not public
        """All commands, in order."""
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        """The command of that name, with arguments that are shown plainly."""
        command = super().get_command(ctx, cmd_name)
        _show_arguments_plainly(command)
        return command

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run the command, and reword a message about an option."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as wrong:
            wrong.message = _plain(wrong.message)
            raise


def _show_arguments_plainly(command: Any) -> None:  # noqa: ANN401
    for inner in getattr(command, "commands", {}).values():
        _show_arguments_plainly(inner)
    for parameter in getattr(command, "params", ()):
        if type(parameter) is TyperArgument:
            parameter.__class__ = PlainArgument


def _plain(message: str) -> str:
    """A message of pydantic (which typer uses since 0.29) in our own style."""
    if message.startswith(("Input should be a valid integer", "Input should be a valid number")):
        return "must be a number"
    message = message.removeprefix("Value error, ")
    return f"must {message.removeprefix('Input should ')}" if message.startswith("Input should ") else message
