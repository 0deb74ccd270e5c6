"""Where an exchange is in its life; the picture is in app.gateway.exchange.exchange."""

from enum import Enum, auto


class Phase(Enum):
    """Each but the last is left once."""

    WAITING = auto()  # upstream has not answered
    COLLECTING = auto()  # an error answer comes in, to be judged whole
    PASSING = auto()  # chunks go on as they come
    COMMITTING = auto()  # all that comes is held until the record is durable
    SETTLED = auto()  # chunks go on again
    OVER = auto()
