"""Every value in force and where it came from, for display. Secrets show only that they are set."""

from collections.abc import Iterator
from typing import NamedTuple

from app.settings.model import Settings, sections
from app.settings.source import SECRETS


class Provenance(NamedTuple):
    """One setting. `value` is JSON; `origin` comes from Settings.origin()."""

    setting: str
    value: object
    origin: str


def provenances(settings: Settings) -> Iterator[Provenance]:
    """All settings in the order of the documentation, prices last."""
    shown = settings.model_dump(mode="json")
    for section, model in sections().items():
        for key in model.model_fields:
            yield _provenance(settings, f"{section}.{key}", shown[section][key])
    for model_name, price in shown["prices"].items():
        yield _provenance(settings, f"prices.{model_name}", price)


def _provenance(settings: Settings, setting: str, value: object) -> Provenance:
    origin = settings.origin(setting)
    if setting in SECRETS and value is not None:
        value = f"set (from {origin})"
    return Provenance(setting, value, origin)
