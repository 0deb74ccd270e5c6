"""Whom TLS towards upstream trusts: the system's authorities, or one file that the operator names. Nothing else.

OpenSSL and Python would take authorities from SSL_CERT_FILE and SSL_CERT_DIR and write every session's secrets to
SSLKEYLOGFILE. Whoever can set a variable could so read the server's key: the context here is built without them.
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
"""Where systems keep their certificates, for a Python that was built to look elsewhere."""

_log = logging.getLogger(__name__)


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Trust what the system trusts, or only `ca_file` when one is given. HTTP/1.1 is what we speak.

    Raises OSError (ssl.SSLError among them) for a file that cannot be read or holds no certificate.
    """
    if ca_file is None and sys.platform in {"darwin", "win32"}:  # the store is not a file there
        import truststore

        context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority that is named need not be a root
        _trust(context, ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _trust(context: ssl.SSLContext, ca_file: str | None) -> None:
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
        return
    # truststore would read the whole bundle anew for every connection, on the loop: 36-47 ms each, measured
    built_in = ssl.get_default_verify_paths()  # its `cafile` and `capath` follow the environment, these two do not
    bundle = next((path for path in (built_in.openssl_cafile, *_BUNDLES) if Path(path).is_file()), None)
    directory = built_in.openssl_capath if Path(built_in.openssl_capath).is_dir() else None
    if bundle is None and directory is None:
        _log.warning("this machine has no certificate authorities: set [[upstream]] ca_file, or no https will work")
    else:
        context.load_verify_locations(cafile=bundle, capath=directory)
