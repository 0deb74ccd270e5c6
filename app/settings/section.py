"""The base of all tables of the settings."""

from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainSerializer,
)

from app.settings.quantities import parse_count, parse_duration
from app.settings.secret import Secret


def lowered(value: object) -> object:
    """Text in lower case; other values unchanged."""
    return value.lower() if isinstance(value, str) else value


def split_names(value: object) -> object:
    """A list of names from text with commas, as variables have it; other values unchanged."""
    return [name for name in map(str.strip, value.split(",")) if name] if isinstance(value, str) else value


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be a path")
    return path


AnyCase = BeforeValidator(lowered)
"""For fields with a fixed set of words."""
Count = Annotated[int, BeforeValidator(parse_count)]
Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
Directory = Annotated[Path, AfterValidator(_absolute)]
Key = Annotated[InstanceOf[Secret], PlainSerializer(str)]


class Section(BaseModel):
    """One table of the settings. Error messages never repeat a value, since it could be a misplaced secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)
