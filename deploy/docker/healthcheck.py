"""The container's HEALTHCHECK: exit code 0 while the server in it is ready, with the standard library alone.

The note that a running server keeps in its state directory says where it is, whatever port it was given.
"""

import http.client
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

SECONDS = 4


def unready() -> str | None:
    """What keeps the server from being ready; None if nothing does."""
    note = Path(os.environ.get("WEIGHBRIDGE_STATE_DIR", "/data"), "server.json")
    try:
        where = urlsplit(json.loads(note.read_text("utf-8"))["url"])
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=SECONDS)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        said = answer.read(10_000).decode("utf-8", "replace")
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    return None if answer.status == http.client.OK else said


if __name__ == "__main__":
    sys.exit(unready())
