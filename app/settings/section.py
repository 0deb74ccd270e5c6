"""What every table of the settings is."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from app.settings.quantities import parse_count


def lowered(value: object) -> object:
    """Text in lower case; anything else as it is."""
    return value.lower() if isinstance(value, str) else value


AnyCase = BeforeValidator(lowered)
"""For words of a closed set."""
Count = Annotated[int, BeforeValidator(parse_count)]


class Section(BaseModel):
    """One table of the settings. Inputs stay out of error texts, since any of them could be a misplaced secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)
