"""The key of one `run`: made when it starts, and revoked when it ends in any way."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli.admin_client import ask, ask_running, call, part, wait_until_known
from app.cli.server_address import ServerAddress, address_of

if TYPE_CHECKING:
    from app.upstream.api.http_client import HttpClient

LABEL = "run"
LIFETIME_SECONDS = 86_400
OK = 200


@dataclass(slots=True, frozen=True)
class RunKey:
    """A key and its server. `models` tells whether the server has a list of models."""

    key_id: str
    text: str
    address: ServerAddress
    models: bool
    config: Path | None

    @classmethod
    def make(cls, client: str, config: Path | None) -> "RunKey":
        """Make a key on the running server. Exits 1 if no server runs."""

        async def made(server: "HttpClient") -> "RunKey":
            address = await address_of(server)
            wanted = {"client": client, "label": LABEL, "expires_seconds": LIFETIME_SECONDS}
            key = await call(server, "POST", "/keys", json=wanted)
            models = await server.get("/v1/models", headers={"authorization": f"Bearer {key['key']}"})
            return cls(key["key_id"], key["key"], address, models.status_code == OK, config)

        found = ask_running(made, config)
        if found is None:
            print("weighbridge: no server runs here; start one with `weighbridge serve`", file=sys.stderr)
            raise typer.Exit(1)
        wait_until_known(config)
        return found

    def revoke(self) -> None:
        """Revoke the key, in this process if the server has ended. Prints a failure and raises nothing."""
        try:
            ask("POST", f"/keys/{part(self.key_id)}/revoke", self.config)
        except typer.Exit:
            print(
                f"weighbridge: the key of this run, {self.key_id}, could not be revoked. It expires 24 h after "
                f"its start; `weighbridge keys revoke {self.key_id}` revokes it now",
                file=sys.stderr,
            )


class Watcher:
    """A process that acts when this one is killed. The end of a pipe tells it.

    It has its own session, so that no signal for the command reaches it, and holds none of the command's files open.
    """

    def __init__(self, when_killed: Callable[[], None]) -> None:
        reading, self._writing = os.pipe()
        if os.fork() == 0:
            self._watch(reading, when_killed)
        os.close(reading)

    def dismiss(self) -> None:
        """End the watcher without acting."""
        with suppress(OSError):
            os.write(self._writing, b".")

    def _watch(self, reading: int, when_killed: Callable[[], None]) -> None:
        os.setsid()
        os.close(self._writing)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        try:
            if not os.read(reading, 1):
                when_killed()
        finally:
            os._exit(0)
