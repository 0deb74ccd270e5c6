"""What a person sees when the server is up: where it is, the first key, and lines to paste."""

import shutil
import sys

from app import __version__

MODEL = "openai/gpt-5.5"


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
        command = "weighbridge" if shutil.which("weighbridge") else sys.argv[0]
        return "\n".join(
            (
                f"Weighbridge {__version__} is ready at {url}",
                f"Upstream: {self._upstream}",
                "",
                *self._exports(url, command),
                "",
                "  curl -N $OPENAI_BASE_URL/responses -H \"Authorization: Bearer $OPENAI_API_KEY\" "
                f"-H 'Content-Type: application/json' -d '{{\"model\": \"{MODEL}\", \"input\": \"Say hello.\", \"stream\": true}}'",
                "",
                "  python -c \"from openai import OpenAI; "
                f"print(OpenAI().responses.create(model='{MODEL}', input='Say hello.').output_text)\"",
                "",
                f"What it cost: {command} usage",
            )
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
