"""TLS towards upstream trusts the system's authorities, or only one file that the operator names.

OpenSSL and Python read authorities from SSL_CERT_FILE and SSL_CERT_DIR and write session secrets to SSLKEYLOGFILE.
Anyone who can set these variables could read the server's key, so the context here ignores them.
"""

import logging
import ssl
import sys
from pathlib import Path

_BUNDLES = (
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
"""Where systems store their certificates, for a Python that looks elsewhere."""

_log = logging.getLogger(__name__)


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Trust the system's authorities, or only `ca_file` if one is given. Offers HTTP/1.1 only.

    Raises OSError (also its subclass ssl.SSLError) for a file that cannot be read or has no certificate.
    """
    if ca_file is None and sys.platform in {"darwin", "win32"}:  # their store is not a file
        import truststore

        context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a named authority need not be a root
        _trust(context, ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _trust(context: ssl.SSLContext, ca_file: str | None) -> None:
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
        return
    # truststore would read the whole bundle for every connection, on the loop: 36-47 ms each, measured
    built_in = ssl.get_default_verify_paths()  # its `cafile` and `capath` follow the environment, openssl_* do not
    bundle = next((path for path in (built_in.openssl_cafile, *_BUNDLES) if Path(path).is_file()), None)
    directory = built_in.openssl_capath if Path(built_in.openssl_capath).is_dir() else None
    if bundle is None and directory is None:
        _log.warning("no certificate authorities found, so https cannot work: set [[upstream]] ca_file")
    else:
        context.load_verify_locations(cafile=bundle, capath=directory)
