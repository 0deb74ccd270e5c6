"""What a person sees when the server is up: where it is, the first key, and lines to paste."""

import os
import re
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from app import __version__

MODEL = "openai/gpt-5.5"
_TEXT = """\
Weighbridge {version} is ready at {url}
Upstream: {upstream}

{exports}

  curl -N $OPENAI_BASE_URL/responses -H "Authorization: Bearer $OPENAI_API_KEY" -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "input": "Say hello.", "stream": true}}'

  pip install openai
  python3 -c "import openai; print(openai.responses.create(model='{model}', input='Say hello.').output_text)"

What it cost: {command} usage"""


class Welcome:
    """Printed once, on stdout: the key is data, and this is its only showing."""

    def __init__(self, upstream: str, first_key: str | None, *, demo: bool) -> None:
        self._upstream = "a mock inside this process: no key, no network, no cost" if demo else upstream
        self._first_key = first_key

    def show(self, url: str) -> None:
        """Print it."""
        print(self.text(url), flush=True)

    def text(self, url: str) -> str:
        """The text, for a server at `url`."""
        command = _command()
        return _TEXT.format(
            version=__version__,
            url=url,
            upstream=self._upstream,
            exports="\n".join(self._exports(url, command)),
            model=MODEL,
            command=command,
        )

    def _exports(self, url: str, command: str) -> tuple[str, ...]:
        address = f"  export OPENAI_BASE_URL={url}/api/v1"
        if self._first_key is not None:
            return (
                "Paste this; the key is shown only now, and belongs to the client `default`:",
                "",
                address,
                f"  export OPENAI_API_KEY={self._first_key}",
            )
        return (
            f"Paste this, with the key of a client (`{command} keys create NAME` makes one):",
            "",
            address,
            "  export OPENAI_API_KEY=sk-wb-...",
        )


def _command() -> str:
    """How this program is called from the shell that started it."""
    outside = from_outside(Path("/"), os.environ, socket.gethostname(), (os.getpid(), os.getppid()))
    if outside is not None:
        return outside
    if shutil.which("weighbridge"):
        return "weighbridge"
    return "python -m app" if sys.argv[0].endswith("__main__.py") else sys.argv[0]


def from_outside(root: Path, environ: Mapping[str, str], hostname: str, pids: tuple[int, int]) -> str | None:
    """How a command is called by whoever started this container or service; None where a shell started us.

    `pids` are this process's and its parent's: what a container was made for is its first process or its init's child,
    and so is a service of systemd, which alone sets INVOCATION_ID.
    """
    if 1 not in pids:
        return None
    if "INVOCATION_ID" in environ:
        state_dir = environ.get("WEIGHBRIDGE_STATE_DIR")
        return f"WEIGHBRIDGE_STATE_DIR={state_dir} {sys.argv[0]}" if state_dir else None
    if "KUBERNETES_SERVICE_HOST" in environ:
        return f"kubectl exec {hostname} -- weighbridge"
    for engine, mark in (("docker", ".dockerenv"), ("podman", "run/.containerenv")):
        if (root / mark).exists():
            return f"{engine} exec {_container_id(root) or hostname} weighbridge"
    return None


def _container_id(root: Path) -> str | None:
    """As the engine has it: it mounts /etc/hostname from a folder of that name.

    The host's name itself may be anything (`--hostname`, `--network host`).
    """
    try:
        mounts = (root / "proc/self/mountinfo").read_text("utf-8")
    except OSError:
        return None
    found = re.search(r"/([0-9a-f]{12})[0-9a-f]{52}/(?:userdata/)?hostname /etc/hostname ", mounts)
    return found[1] if found else None
