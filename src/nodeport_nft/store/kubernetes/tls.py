"""TLS with an API server: whom we believe, and our own certificate. Files are PEM.

What is verified is what Go's client verifies, where Python asks for more: since 3.13 it wants authorities to have
extensions that those of many clusters lack, and it believes no authority that is itself signed by one it does not
know.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nodeport_nft.config.kubeconfig import Cluster, Pem
from nodeport_nft.store.kubernetes.errors import NoCredentials


def client_context(cluster: Cluster, certificate: Pem, key: Pem) -> ssl.SSLContext:
    """What connections to this cluster are made with. Raises NoCredentials with the file and the remedy."""
    context = (
        ssl.create_default_context(cadata=_authorities(cluster.ca)) if cluster.ca else ssl.create_default_context()
    )
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not cluster.is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        _take_certificate(context, certificate, key)
    return context


def _authorities(ca: Pem) -> str:
    """The text of an authority's certificates; NoCredentials where there is none in it."""
    name = ca.path or "certificate-authority-data"
    try:
        data = ca.data or Path(ca.path).read_bytes()
    except OSError as error:
        raise NoCredentials(f"{ca.path}: {error.strerror}; is it the file of the cluster's authority?") from None
    text = data.decode("ascii", "replace")  # what is around the certificates may be anything
    try:
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise NoCredentials(f"{name}: holds no certificate that can be read ({_reason(error)}); write PEM") from None
    return text


def _take_certificate(context: ssl.SSLContext, certificate: Pem, key: Pem) -> None:
    name = certificate.path or "client-certificate-data"
    key_name = key.path or "client-key-data"
    with ExitStack() as held:
        try:
            certificate_path, key_path = (held.enter_context(_path(pem)) for pem in (certificate, key))
            context.load_cert_chain(certificate_path, key_path, password=_no_password)
        except _Encrypted:
            raise NoCredentials(
                f"{key_name}: is encrypted, and nobody is asked for its password; decrypt it"
            ) from None
        except ssl.SSLError as error:
            if "MISMATCH" in (error.reason or ""):
                raise NoCredentials(
                    f"{name}: is a certificate of another key than {key_name}; name those that belong together"
                ) from None
            raise NoCredentials(
                f"{name}, {key_name}: cannot be read as a certificate and its key ({_reason(error)}); write PEM"
            ) from None
        except OSError as error:
            raise NoCredentials(f"{name}, {key_name}: {error.strerror}; name files that this user can read") from None


class _Encrypted(Exception):
    """A key wants a password."""


def _no_password() -> str:
    raise _Encrypted  # else OpenSSL asks at the terminal


@contextmanager
def _path(pem: Pem) -> Iterator[str]:
    """A path to read PEM from, the only way that Python has for keys; those of a kubeconfig never come to a disk."""
    if not pem.data:
        yield pem.path
        return
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem.data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()
