"""Certificates for tests, by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """A certificate authority, and what it issues, in a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self.certificate = directory / f"{name}.pem"
        self._key = directory / f"{name}.key"
        openssl(
            *("req", "-x509", *_NEW_KEY, "-days", "2", "-keyout", str(self._key), "-out", str(self.certificate)),
            *("-subj", f"/CN={name}"),
        )

    def issue(self, name: str, subject: str, *, alternative: str = "", days: int = 2) -> tuple[Path, Path]:
        """A certificate and its key. ``subject``: as ``/O=group/CN=user``; ``alternative``: as ``IP:127.0.0.1``."""
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        request, extensions = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        names = f"subjectAltName={alternative}\n" if alternative else ""
        extensions.write_text(f"{names}extendedKeyUsage=serverAuth,clientAuth\n")
        openssl("req", "-new", *_NEW_KEY, "-keyout", str(key), "-out", str(request), "-subj", subject)
        openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key)),
            *("-CAcreateserial", "-days", str(days), "-extfile", str(extensions), "-out", str(certificate)),
        )
        return certificate, key


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)
