"""The phases of an exchange; app.gateway.exchange.exchange has the picture."""

from enum import Enum, auto


class Phase(Enum):
    """Each but the last is left once."""

    WAITING = auto()  # upstream has not answered
    COLLECTING = auto()  # an error answer comes in, to be judged whole
    PASSING = auto()  # chunks go on as they come
    COMMITTING = auto()  # chunks are buffered until the record is durable
    SETTLED = auto()  # chunks go on again
    OVER = auto()
