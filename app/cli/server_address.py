"""The address at which clients reach the server: as the running server says, or else as the settings say."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.serve.welcome import MODEL

if TYPE_CHECKING:
    from app.settings import Settings
    from app.upstream.api.http_client import HttpClient

_PREFIX = "/api/v1"


@dataclass(slots=True, frozen=True)
class ServerAddress:
    """`url` is the address on this machine, `public_url` the one for clients, `others` more for other machines.

    `vendor_names` tells that upstream's names of models begin with a vendor, as OpenRouter's do.
    """

    url: str
    public_url: str
    vendor_names: bool
    running: bool
    others: tuple[str, ...] = ()

    @property
    def base_url(self) -> str:
        """The base URL for clients."""
        return self.public_url + _PREFIX

    @property
    def local_base_url(self) -> str:
        """The base URL for programs on this machine."""
        return self.url + _PREFIX

    @property
    def model(self) -> str:
        """A model for examples, by its name upstream."""
        return MODEL if self.vendor_names else MODEL.rpartition("/")[2]


def locate(config: Path | None) -> ServerAddress:
    """Find the server's address. Changes nothing. Exits 2 if the settings have faults."""
    from app.cli.admin_client import ask_running
    from app.cli.config import load_or_exit

    found = ask_running(address_of, config)
    return from_settings(load_or_exit(config)) if found is None else found


async def address_of(client: "HttpClient") -> ServerAddress:
    """The address of the server behind a client of the admin API. Raises CommandFailedError."""
    from app.cli.admin_client import call

    server, upstream = await call(client, "GET", "/server"), await call(client, "GET", "/upstream")
    url, public_url = server["url"], server["public_url"]
    others = () if public_url else tuple(server["other_urls"])
    return ServerAddress(url, public_url or url, _vendor_names(**upstream), running=True, others=others)


def from_settings(settings: "Settings") -> ServerAddress:
    """The address of a server with these settings."""
    from app.serve.server import address_url

    url = address_url(settings.server.host, settings.server.port)
    vendor_names = _vendor_names(settings.upstream.name, settings.upstream.base_url)
    return ServerAddress(url, settings.server.public_url or url, vendor_names, running=False)


def _vendor_names(name: str, base_url: str) -> bool:
    from app.upstream.prices.providers import provider_of

    return name == "mock" or provider_of(base_url) == "openrouter"
