"""Codex settings for this gateway as a provider. Codex does not read OPENAI_BASE_URL (0.171, measured).

`model_catalog_url` makes Codex ask for the models; with `env_key` alone it never does. The idle time is longer than
Codex' default of 300 s, since Codex does not count comments in a stream. One retry is enough: each is billed.
"""

import json
from collections.abc import Mapping

KEY_VARIABLE = "OPENAI_API_KEY"
_PROVIDER = "weighbridge"

Settings = Mapping[str, str | int]


def settings(base_url: str, model: str | None, *, catalog: bool = True) -> Settings:
    """The settings by their dotted names. `base_url` ends before `/responses`. Without `model` Codex uses its default.

    With `catalog` Codex asks the gateway for the models. If it gets no list, it starts only if a model is named.
    """
    provider: Settings = {
        "name": "Weighbridge",
        "base_url": base_url,
        **({"model_catalog_url": f"{base_url}/models"} if catalog else {}),
        "env_key": KEY_VARIABLE,
        "wire_api": "responses",
        "request_max_retries": 1,
        "stream_idle_timeout_ms": 900_000,
    }
    chosen = {} if model is None else {"model": model}
    return {
        **chosen,
        "model_provider": _PROVIDER,
        **{f"model_providers.{_PROVIDER}.{name}": value for name, value in provider.items()},
    }


def toml(settings: Settings) -> str:
    """Lines for the top of config.toml. Their names are dotted, so that the lines below stay in their own tables."""
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())


def options(settings: Settings) -> list[str]:
    """The settings as options of the command line."""
    return [word for name, value in settings.items() for word in ("-c", f"{name}={json.dumps(value)}")]
