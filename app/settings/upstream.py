"""Settings of upstream: its address and key, the proxy and authorities, timeouts, and extra headers."""

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from app.domain.headers import never_crosses
from app.domain.records import DEMO_UPSTREAM
from app.settings.addresses import parse_proxy_url, parse_upstream_url, upstream_name
from app.settings.secret import Secret
from app.settings.section import Directory, Key, Seconds, Section, split_names

if TYPE_CHECKING:
    from app.upstream.wire.target import Target

_OPENAI_HOSTS = frozenset(("openai", "azure"))
_NAME = r"^[A-Za-z0-9:][A-Za-z0-9._:-]{0,252}$"
_HEADER_GLOB = re.compile(r"[a-z0-9!#$%&'*+.^_`|~?-]{1,64}", re.ASCII)


def _header_glob(value: str) -> str:
    glob = value.lower()
    if not _HEADER_GLOB.fullmatch(glob):
        raise ValueError("must be names of headers; * stands for any text and ? for one character")
    if not set("*?") & set(glob) and never_crosses(glob.encode("ascii")):
        raise ValueError("must not name credentials, cookies, tracing, or headers of one hop: they never go upstream")
    return glob


def _not_the_demos(name: str) -> str:
    if name == DEMO_UPSTREAM:
        raise ValueError(f"must not be {name}: that is the name of the upstream of `serve --demo`")
    return name


HeaderGlobs = Annotated[tuple[Annotated[str, AfterValidator(_header_glob)], ...], BeforeValidator(split_names)]


class UpstreamSettings(Section):
    """One upstream and its key."""

    base_url: Annotated[str, AfterValidator(parse_upstream_url)] = Field(
        default="https://openrouter.ai/api/v1",
        description="Where calls go. https only, unless the host is loopback; no user name or password.",
    )
    name: Annotated[str, Field(pattern=_NAME), AfterValidator(_not_the_demos)] = Field(
        default_factory=lambda given: upstream_name(given["base_url"]),
        description="Its name in the ledger. Without it: openrouter, openai or azure by the host, else the host.",
        examples=["openrouter"],
    )
    key_file: Directory | None = Field(
        default=None, description="File that holds the upstream key.", examples=["/run/secrets/upstream-key"]
    )
    key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        default=None, description="Environment variable that holds the upstream key.", examples=["TEAM_OPENROUTER_KEY"]
    )
    key: Key | None = Field(default=None, description="The upstream key itself.")
    ca_file: Directory | None = Field(
        default=None,
        description="PEM file of the authorities to trust for upstream, instead of the system's.",
        examples=["/etc/ssl/corporate-ca.pem"],
    )
    proxy: Annotated[str, AfterValidator(parse_proxy_url)] | None = Field(
        default=None,
        description="HTTP proxy for connections to upstream (CONNECT). It may have a user name, but no password.",
        examples=["http://user@proxy.example.com:3128"],
    )
    proxy_password_file: Directory | None = Field(
        default=None, description="File that holds the proxy's password.", examples=["/run/secrets/proxy-password"]
    )
    proxy_password: Key | None = Field(default=None, description="The proxy's password itself.")
    pass_headers: HeaderGlobs = Field(
        default=(),
        description="More headers of callers that are sent upstream; * and ? are wildcards. Never credentials.",
    )

    @field_validator("ca_file")
    @classmethod
    def _is_readable(cls, path: Path | None) -> Path | None:
        if path is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
            except ssl.SSLError:
                raise ValueError(f"must be a PEM file with certificates, and {path} is not") from None
            except OSError as error:
                raise ValueError(f"cannot read {path}: {error.strerror}") from None
        return path

    @field_validator("proxy")
    @classmethod
    def _leads_to_https(cls, proxy: str | None, info: ValidationInfo) -> str | None:
        if proxy is not None and info.data.get("base_url", "https:").startswith("http:"):
            raise ValueError("must not be set for an upstream on this machine: it is reached without a proxy")
        return proxy

    @field_validator("proxy_password")
    @classmethod
    def _has_a_user(cls, password: Secret | None, info: ValidationInfo) -> Secret | None:
        if password is not None and "proxy" in info.data and "@" not in (info.data["proxy"] or ""):
            raise ValueError("needs a proxy with a user name, such as http://user@proxy.example.com:3128")
        return password

    @property
    def is_openai(self) -> bool:
        """Whether the host belongs to OpenAI or Azure."""
        return upstream_name(self.base_url) in _OPENAI_HOSTS

    def target(self, base_url: str | None = None) -> "Target":
        """Where and how calls are sent, to `base_url` if it is given. Reads the trusted authorities."""
        from app.upstream.wire.target import Proxy, Target

        password = None if self.proxy_password is None else self.proxy_password.reveal()
        proxy = None if self.proxy is None else Proxy.of(self.proxy, password)
        ca_file = None if self.ca_file is None else str(self.ca_file)
        return Target.of(base_url or self.base_url, ca_file=ca_file, proxy=proxy)


class UpstreamTimeoutSettings(Section):
    """How long we wait for upstream."""

    connect: Seconds = Field(default=10, description="Time to reach upstream, TLS included.")
    first_byte: Seconds = Field(
        default=600, description="Time until its answer begins; reasoning models think for minutes."
    )
    idle: Seconds = Field(default=600, description="Longest silence within an answer.")
