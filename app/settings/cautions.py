"""What a server starts with and warns of: who may read its keys, weak keys, and variables that others heed."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.settings.admin_key import FILE_NAME
from app.settings.credentials import LEAST_SECRET_CHARACTERS
from app.settings.environment import FILE_VARIABLES
from app.settings.model import Settings

_UNUSED = (
    (
        ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"),
        "not used for upstream. To use a proxy, set [[upstream]] proxy (WEIGHBRIDGE_UPSTREAM_PROXY)",
    ),
    (
        ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        "not used for upstream. To trust another authority, set [[upstream]] ca_file (WEIGHBRIDGE_UPSTREAM_CA_FILE)",
    ),
    (("SSLKEYLOGFILE",), "not used for upstream. Weighbridge never writes the secrets of TLS to a file"),
)
"""Variables that steer other programs' connections. They would decide where the upstream key goes, and who reads it."""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cautions(settings: Settings, environ: Mapping[str, str], *, demo: bool = False) -> Iterator[str]:
    """A sentence for each. None of it stops a start: volumes of Kubernetes come with such modes.

    A demo connects to no upstream, so what concerns the upstream is left out.
    """
    yield from _of_directory(settings.storage.state_dir)
    for path in _key_files(settings, environ):
        if _mode(path) & stat.S_IROTH:
            yield f"{path} can be read by all users of this machine: `chmod 600 {path}` ends that"
    if demo:
        return
    yield from _of_variables(environ)
    key = settings.upstream.key
    if key is not None and len(key.reveal()) < LEAST_SECRET_CHARACTERS:
        yield (
            f"the upstream key has fewer than {LEAST_SECRET_CHARACTERS} characters: so short a text occurs by chance, "
            "so answers are not searched for it. Use a longer key unless upstream is a local server that ignores it"
        )


def _of_variables(environ: Mapping[str, str]) -> Iterator[str]:
    for names, instead in _UNUSED:
        found = [spelling for name in names for spelling in (name, name.lower()) if environ.get(spelling)]
        if found:
            yield f"{', '.join(found)} in the environment: {instead}"


def _of_directory(path: Path) -> Iterator[str]:
    try:
        found = path.stat()
    except OSError:  # it is made by and by, or the start will say what is wrong
        return
    if found.st_mode & _OTHERS_WRITE:
        yield f"the state directory {path} can be changed by other users: `chmod 700 {path}` ends that"
    elif found.st_uid not in (0, os.geteuid()):
        yield f"the state directory {path} belongs to user id {found.st_uid}, who can change what is in it"


def _key_files(settings: Settings, environ: Mapping[str, str]) -> Iterator[Path]:
    yield settings.storage.state_dir / FILE_NAME
    upstream = settings.upstream
    named = (settings.server.admin_key_file, upstream.key_file, upstream.proxy_password_file)
    yield from (path for path in named if path is not None)
    yield from (Path(environ[name]) for name in FILE_VARIABLES if environ.get(name))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0
