"""What a connection expects next from its client."""

from enum import Enum, auto


class Stage(Enum):
    """See the drawing in `app.web.connection.protocol`."""

    HEAD = auto()
    BODY = auto()
    ANSWER = auto()  # nothing until the answer is complete
    DISCARD = auto()  # nothing: the connection is closing
