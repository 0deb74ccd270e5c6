"""Codex' settings for a provider that is this gateway. Codex does not read OPENAI_BASE_URL (0.171, measured).

`model_catalog_url` makes Codex ask for the models; with `env_key` alone it never does. The idle time is longer than
Codex' own 300 s, since comments in a stream do not count for it, and one retry is enough: each is billed.
"""

import json
from collections.abc import Mapping

KEY_VARIABLE = "OPENAI_API_KEY"
_PROVIDER = "weighbridge"

Settings = Mapping[str, str | int]


def settings(base_url: str, model: str | None, *, catalog: bool = True) -> Settings:
    """The settings by their dotted names. `base_url` ends before `/responses`; without `model` Codex' own stays.

    With `catalog` it asks the gateway for the models. If that does not answer, Codex starts only with a model named.
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
    """Lines for the top of config.toml. Dotted names, so that what stands below them stays where it belongs."""
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())


def options(settings: Settings) -> list[str]:
    """The same as options of the command line."""
    return [word for name, value in settings.items() for word in ("-c", f"{name}={json.dumps(value)}")]
