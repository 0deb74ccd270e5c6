"""The text that a start prints: the address, the first key, and lines to paste."""

import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from app import __version__
from app.settings import Settings
from app.settings.servers import runtime_dir

MODEL = "openai/gpt-5.5"
_TEXT = """\
Weighbridge {version} is ready at {url}
{others}Upstream: {upstream}

{exports}

  curl -N $OPENAI_BASE_URL/responses -H "Authorization: Bearer $OPENAI_API_KEY" -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "input": "Say hello.", "stream": true}}'

  pip install openai
  python3 -c "import openai; print(openai.responses.create(model='{model}', input='Say hello.').output_text)"

What it cost: {usage}"""


class Welcome:
    """The text of one start. It goes to stdout, since the key in it is data and is shown only here."""

    def __init__(self, settings: Settings, first_key: str | None, *, demo: bool) -> None:
        upstream = settings.upstream.name
        self._upstream = "a mock inside this process: no key, no network, no cost" if demo else upstream
        self._first_key = first_key
        self._settings = settings

    def show(self, url: str, others: Sequence[str] = ()) -> None:
        """Print it."""
        print(self.text(url, others), flush=True)

    def text(self, url: str, others: Sequence[str] = ()) -> str:
        """The text, for a server at `url`, which other machines may reach at `others`."""
        return _TEXT.format(
            version=__version__,
            url=url,
            others="".join(f"Also at {other}\n" for other in others),
            upstream=self._upstream,
            exports="\n".join(self._exports(url)),
            model=MODEL,
            usage=self._command("usage"),
        )

    def _exports(self, url: str) -> tuple[str, ...]:
        address = f"  export OPENAI_BASE_URL={url}/api/v1"
        if self._first_key is not None:
            return (
                "Paste this; the key is shown only now, and belongs to the client `default`:",
                "",
                address,
                f"  export OPENAI_API_KEY={self._first_key}",
            )
        return (
            f"Paste this, with the key of a client (`{self._command('keys create NAME')}` makes one):",
            "",
            address,
            "  export OPENAI_API_KEY=sk-wb-...",
        )

    def _command(self, words: str) -> str:
        """A complete command for this server, to be typed in another shell."""
        outside = from_outside(Path("/"), os.environ, socket.gethostname(), (os.getpid(), os.getppid()))
        path, named_by = self._settings.file or (None, "")
        config = f" --config {shlex.quote(str(path))}" if named_by.startswith(("flag", "env")) else ""
        if outside is not None:
            return f"{outside} {words}{config if named_by.startswith('flag') else ''}"
        state_dir = shlex.quote(str(self._settings.storage.state_dir))
        moved = self._settings.origin("storage.state_dir").startswith("env")
        told = moved and not config and runtime_dir(os.environ) is None
        return f"{f'WEIGHBRIDGE_STATE_DIR={state_dir} ' if told else ''}{_program()} {words}{config}"


def _program() -> str:
    """The command that runs this program in the shell that started it."""
    if shutil.which("weighbridge"):
        return "weighbridge"
    return "python -m app" if sys.argv[0].endswith("__main__.py") else sys.argv[0]


def from_outside(root: Path, environ: Mapping[str, str], hostname: str, pids: tuple[int, int]) -> str | None:
    """The command for the person who started this container or service; None if a shell started this process.

    `pids` are this process's and its parent's. The main process of a container is process 1 or a child of its init, and
    so is a service of systemd, which alone sets INVOCATION_ID.
    """
    if 1 not in pids:
        return None
    if "INVOCATION_ID" in environ:
        state_dir = environ.get("WEIGHBRIDGE_STATE_DIR")
        return f"WEIGHBRIDGE_STATE_DIR={state_dir} {sys.argv[0]}" if state_dir else None
    if "KUBERNETES_SERVICE_HOST" in environ:
        return f"kubectl exec {hostname} -- weighbridge"
    found = _container_id(root)
    if found is not None and (root / ".dockerenv").exists():
        return f"docker exec {found} weighbridge"
    if (root / "run/.containerenv").exists():
        return f"podman exec {found or hostname} weighbridge"
    return None


def _container_id(root: Path) -> str | None:
    """The container's id: the engine mounts /etc/hostname from a folder with that name.

    The host name may be anything (`--hostname`, `--network host`), and Docker's marker file does not prove a container:
    a machine that was made from an image has it, too.
    """
    try:
        mounts = (root / "proc/self/mountinfo").read_text("utf-8")
    except OSError:
        return None
    found = re.search(r"/([0-9a-f]{12})[0-9a-f]{52}/(?:userdata/)?hostname /etc/hostname ", mounts)
    return found[1] if found else None
