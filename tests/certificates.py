"""Certificates for tests on loopback, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificates(folder: Path) -> Path:
    """`ca`, `server` and `client` that it signed for 127.0.0.1 and localhost, `elsewhere` that it signed for another
    host, and `rogue` that nobody signed; each as .crt and .key in PEM."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "rogue"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-keyout", f"{name}.key", "-out", f"{name}.crt")  # fmt: skip
    for name in ("server", "client", "elsewhere"):
        places = "DNS:pacs.example.org" if name == "elsewhere" else "DNS:localhost,IP:127.0.0.1"
        (folder / f"{name}.names").write_text(f"subjectAltName={places}\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                "-out", f"{name}.csr")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-extfile", f"{name}.names", "-out", f"{name}.crt")  # fmt: skip
    return folder
