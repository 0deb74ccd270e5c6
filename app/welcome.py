"""What a person sees when the server is up: where it is, the first key, and lines to paste."""

import shutil
import sys

from app import __version__

MODEL = "openai/gpt-5.5"
_TEXT = """\
Weighbridge {version} is ready at {url}
Upstream: {upstream}

{exports}

  curl -N $OPENAI_BASE_URL/responses -H "Authorization: Bearer $OPENAI_API_KEY" -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "input": "Say hello.", "stream": true}}'

  python -c "import openai; print(openai.responses.create(model='{model}', input='Say hello.').output_text)"

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
    if shutil.which("weighbridge"):
        return "weighbridge"
    return "python -m app" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
