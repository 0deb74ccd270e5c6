"""Warnings of a start: keys that other users can read, weak keys, and variables that only other programs obey."""

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
"""Variables that other programs obey. If we did, they would decide where the upstream key goes and who can read it."""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cautions(settings: Settings, environ: Mapping[str, str], *, demo: bool = False) -> Iterator[str]:
    """One sentence for each warning. None stops the start: volumes of Kubernetes have such modes.

    A demo connects to no upstream, so warnings about upstream are left out.
    """
    yield from _of_directory(settings.storage.state_dir)
    for path in _key_files(settings, environ):
        if _mode(path) & stat.S_IROTH:
            yield f"all users of this machine can read {path}: run `chmod 600 {path}`"
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
    except OSError:  # the start makes it, or reports the error
        return
    if found.st_mode & _OTHERS_WRITE:
        yield f"other users can change the state directory {path}: run `chmod 700 {path}`"
    elif found.st_uid not in (0, os.geteuid()):
        yield f"the state directory {path} belongs to user id {found.st_uid}, who can change its files"


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
