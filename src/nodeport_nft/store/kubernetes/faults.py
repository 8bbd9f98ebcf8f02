"""What is said when there is no answer: aiohttp's, the system's and OpenSSL's errors in words, with the remedy."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import aiohttp

from nodeport_nft.problems import clipped
from nodeport_nft.store.kubernetes.errors import Unreachable
from nodeport_nft.store.kubernetes.proxies import shown_proxy

_LONGEST = 200

BROKEN_OFF = "the connection broke off; the API server may be restarting"

# OpenSSL's x509_vfy.h
_VERIFYING = {
    9: "is not valid yet; compare the clocks of both machines",
    10: "has expired; renew it (kubeadm certs check-expiration), or compare the clocks of both machines",
    18: "is signed by itself; name its authority as certificate-authority-data in the kubeconfig",
    19: "is of an authority that is not known; name it as certificate-authority-data in the kubeconfig",
    20: "is of an authority that is not known; name it as certificate-authority-data in the kubeconfig",
    62: "is for other names; name one of them as the server or as tls-server-name in the kubeconfig",
    64: "is for other addresses; name one of them as the server, or its name as tls-server-name in the kubeconfig",
}

# What a server says of our certificate: alerts of TLS (RFC 8446, 6.2).
_ALERTS = {
    "CERTIFICATE_REQUIRED": "the server wants a client certificate; name client-certificate and client-key",
    "HANDSHAKE_FAILURE": "the server takes none of our ways to speak TLS, or wants a client certificate",
    "UNKNOWN_CA": "the server knows no authority of our client certificate; take one of its cluster's",
    "CERTIFICATE_EXPIRED": "our client certificate has expired; renew it",
    "CERTIFICATE_REVOKED": "our client certificate was revoked; take another",
    "BAD_CERTIFICATE": "the server refuses our client certificate; take one of its cluster's",
    "ACCESS_DENIED": "the server refuses our client certificate; take one of its cluster's",
}
_NUMBERS = {
    ConnectionResetError: errno.ECONNRESET,
    ConnectionRefusedError: errno.ECONNREFUSED,
    ConnectionAbortedError: errno.ECONNABORTED,
    BrokenPipeError: errno.EPIPE,
    TimeoutError: errno.ETIMEDOUT,
}
"""What the system would have said where Python raises an error of its own."""

_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
)


def unreachable(error: BaseException, where: str, proxy: str = "", *, is_sent: bool = True) -> Unreachable:
    """What is raised for an error of a request. ``where``: the store and its server; ``is_sent`` if it may have been.

    Those of connecting are never sent.
    """
    connecting = (
        aiohttp.ClientConnectorError,
        aiohttp.ClientHttpProxyError,
        aiohttp.ConnectionTimeoutError,
        aiohttp.InvalidURL,
    )
    # The certificate's error is, for reasons of its own, none of ClientConnectorError.
    is_connecting = isinstance(error, (*connecting, aiohttp.ClientConnectorCertificateError))
    return Unreachable(f"{where}: {_told(error, proxy)}", is_sent=is_sent and not is_connecting)


def _told(error: BaseException, proxy: str) -> str:
    if (fault := _tls_error(error)) is not None:
        return _tls(fault)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        name = clipped(str(error.host))
        reason = _system(error.os_error)
        return f"the name {name} cannot be resolved ({reason}); compare the kubeconfig and /etc/resolv.conf"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        refused = f"the proxy {shown_proxy(proxy)} refuses ({error.status} {clipped(error.message)})"
        remedy = "name user and password in proxy-url" if error.status == 407 else "see the proxy's own log"
        return f"{refused}; {remedy}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        reason = _system(error.os_error)
        return f"the proxy {shown_proxy(proxy)} does not answer ({reason}); compare proxy-url and $HTTPS_PROXY"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection ({_system(error.os_error)}); is the API server up, and the network between?"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no answer to the attempt to connect; is the API server up, and the network between?"
    if isinstance(error, aiohttp.SocketTimeoutError | TimeoutError):
        return "no answer in time; is the API server overloaded, or the network between cut?"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | ConnectionError):
        return BROKEN_OFF
    if isinstance(error, OSError):
        return f"{_system(error)}; is the API server up, and the network between?"
    said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    first = clipped(said.partition("\n")[0].rstrip(":"), _LONGEST)
    return f"what was answered is not HTTP that can be read ({first}); is a proxy between?"


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """The error of OpenSSL behind one of aiohttp's."""
    behind: BaseException | None = error
    for _ in range(5):  # of errors that name each other there is no end
        if isinstance(behind, aiohttp.ClientConnectorCertificateError):
            behind = behind.certificate_error
        elif isinstance(behind, aiohttp.ClientConnectorError):
            behind = behind.os_error
        elif isinstance(behind, ssl.SSLError) or behind is None:
            return behind
        else:
            behind = behind.__cause__
    return None


def _tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        said = _VERIFYING.get(
            error.verify_code, "cannot be verified; compare it with the authority of the kubeconfig"
        )
        return f"the server's certificate {said} ({clipped(error.verify_message.rstrip('.'), _LONGEST)})"
    reason = error.reason or ""
    for alert, said in _ALERTS.items():
        if f"ALERT_{alert}" in reason:
            return said
    if any(word in reason for word in _NO_TLS):
        return (
            "the server speaks no TLS there; write http:// if that is meant, or name another port in the kubeconfig"
        )
    said = reason.replace("_", " ").lower() or clipped(str(error), _LONGEST)
    return f"TLS failed ({said}); compare the server's certificate and ours with the kubeconfig"


def _system(error: BaseException) -> str:
    """The system's words, without their numbers, and without asyncio's, which leave out what happened."""
    number = (
        error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror | ssl.SSLError) else None
    )
    if not number and not str(error):
        # asyncio has some that say nothing. In the same words as those of the system, an outage stays one problem.
        number = next((number for kind, number in _NUMBERS.items() if isinstance(error, kind)), None)
    said = os.strerror(number) if number else getattr(error, "strerror", None)
    return clipped(said or str(error) or type(error).__name__, _LONGEST)
