"""Certificates for tests: an authority of the test's own, and files that may be replaced."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass
class Authority:
    """Signs certificates, and writes what a gateway wants to read into *folder*."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.own = trustme.CA()
        self.ca = self.folder / "ca.pem"
        self.own.cert_pem.write_to_path(str(self.ca))

    def server(self, *names: str, expired: bool = False, clients: Authority | None = None) -> ssl.SSLContext:
        """Return what a server of these names presents; with *clients* it asks for theirs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        not_after = dt.datetime.now(dt.UTC) - dt.timedelta(days=1) if expired else None
        self.own.issue_cert(*(names or ("127.0.0.1", "localhost")), not_after=not_after).configure_cert(
            context
        )
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            clients.own.configure_trust(context)
        return context

    def client(self, name: str = "gateway") -> tuple[Path, Path]:
        """Write a client's certificate and key; returns where."""
        made = self.own.issue_cert(f"{name}.test")
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        made.cert_chain_pems[0].write_to_path(str(certificate))
        made.private_key_pem.write_to_path(str(key))
        return certificate, key
