"""The environment and the arguments of a command that `run` points at this gateway. No file is changed."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from app.cli import codex
from app.cli.server_address import ServerAddress

_PROXIES = frozenset(("http_proxy", "https_proxy", "all_proxy"))
_CODEX_PACKAGE = re.compile(r"@openai/codex(@.*)?")
_CHOOSES_MODEL = re.compile(r"-m.*|--model(=.*)?|-p.*|--profile(=.*)?|--oss|(-c|--config=)?model=.*", re.DOTALL)


def pointed(environ: Mapping[str, str], base_url: str, key: str, secret_variables: Iterable[str]) -> dict[str, str]:
    """`environ` with the gateway's address and a key, without the gateway's own secrets.

    LangChain reads OPENAI_API_BASE first. The trace exporter of the Agents SDK would send the key to OpenAI.
    """
    hidden = frozenset(secret_variables)
    made = {name: value for name, value in environ.items() if name not in hidden}
    made |= {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_BASE": base_url,
        "OPENAI_API_KEY": key,
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
    }
    if any(name.lower() in _PROXIES for name in made):
        made |= _past_the_proxy(made, urlsplit(base_url).hostname or "")
    return made


def _past_the_proxy(environ: Mapping[str, str], host: str) -> dict[str, str]:
    excepted = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    names = f"{excepted},{host}" if excepted else host
    return {"NO_PROXY": names, "no_proxy": names}


def with_provider(
    words: Sequence[str], address: ServerAddress, environ: Mapping[str, str], *, catalog: bool
) -> list[str]:
    """The arguments of a command. Codex gets this gateway as its provider, with its list of models if `catalog`."""
    place = _place_of_codex(words)
    if place is None:
        return list(words)
    rest = words[place + 1 :]
    model = address.model if address.vendor_names and not _model_is_chosen(rest, environ) else None
    settings = codex.settings(address.local_base_url, model, catalog=catalog)
    return [*words[: place + 1], *codex.options(settings), *rest]


def _place_of_codex(words: Sequence[str]) -> int | None:
    """The position of Codex in the command: called by its name, or as a package by npx and similar programs."""
    if Path(words[0]).name == "codex":
        return 0
    return next((place for place, word in enumerate(words) if place and _CODEX_PACKAGE.fullmatch(word)), None)


def _model_is_chosen(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether the command line names a model, or Codex' configuration names one with a vendor."""
    if any(_CHOOSES_MODEL.fullmatch(word) for word in words):
        return True
    home = environ.get("CODEX_HOME") or os.path.join(environ.get("HOME", ""), ".codex")  # noqa: PTH118 - a text
    try:
        configured = tomllib.loads(Path(home, "config.toml").read_text("utf-8")).get("model")
    except (OSError, ValueError):
        return False
    return isinstance(configured, str) and "/" in configured
