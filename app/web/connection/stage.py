"""What a connection expects of its client next."""

from enum import Enum, auto


class Stage(Enum):
    """See the drawing in `app.web.connection.protocol`."""

    HEAD = auto()
    BODY = auto()
    ANSWER = auto()  # nothing, until it has its answer
    DISCARD = auto()  # nothing any more
