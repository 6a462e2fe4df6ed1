"""
TLS towards the store: verified by default, with files that may be renewed while we run.

Certificates are short-lived: a context is made anew for the next connection when a file has changed on
disk. Connections that stand are not touched, so a renewal costs nothing; one that went wrong shows when
a connection is made, as a reason that names the file.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from silence_gateway.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """
    How the store proves who it is, and how we do; the same for a service that checks itself.

    Attributes:
        ca: PEM file of the authority that signed the store's certificate; None for the system's own.
        certificate: PEM file of our certificate, for a store that asks for one.
        key: PEM file of its key.
        verify: Whether the store must prove who it is. Without, anybody between us can read and change
            everything.
        server_name: The name that its certificate must hold, where that is not the host we connect to.

    Raises:
        ConfigError: A certificate comes without its key, or a key without its certificate.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    verify: bool = True
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("tls: certificate and key go together")

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read."""
        return tuple(path for path in (self.ca, self.certificate, self.key) if path is not None)


# What can be done about a certificate that was not accepted, by OpenSSL's number for why (x509_vfy.h).
REMEDIES = {
    2: "name the authority that signed its certificate in store.tls.ca",
    9: "its certificate is not valid yet: check the clocks",
    10: "renew its certificate, or check the clock of this machine",
    18: "name its self-signed certificate in store.tls.ca",
    19: "name the authority that signed its certificate in store.tls.ca",
    20: "name the authority that signed its certificate in store.tls.ca",
    21: "name the authority that signed its certificate in store.tls.ca",
    62: "use a name that its certificate holds, or write that name in store.tls.server_name",
    64: "use an address that its certificate holds, or write a name of it in store.tls.server_name",
}
# The same for what OpenSSL says when TLS fails for another reason; the first that fits.
REMEDIES_BY_REASON = {
    "CERTIFICATE_REQUIRED": "it asks for a certificate of ours: set store.tls.certificate and key",
    "HANDSHAKE_FAILURE": "it may ask for a certificate of ours: set store.tls.certificate and key",
    "ALERT_UNKNOWN_CA": "it does not accept our certificate: check who signed store.tls.certificate",
    "ALERT_CERTIFICATE_EXPIRED": "our certificate has expired: renew store.tls.certificate",
    "ALERT_BAD_CERTIFICATE": "it does not accept our certificate: check store.tls.certificate",
    "ALERT_CERTIFICATE_UNKNOWN": "it does not accept our certificate: check store.tls.certificate",
    "WRONG_VERSION_NUMBER": "it speaks no TLS on this port: give the port that does, or write valkey://",
    "PROTOCOL_VERSION": "it speaks no TLS 1.2 or newer",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS 1.2 or newer",
}


def distrust(exc: ssl.SSLError) -> str:
    """Say why a connection came to nothing, and what to do; goes on from the server's name."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"is not trusted: {exc.verify_message}; {REMEDIES.get(exc.verify_code, 'see store.tls')}"
    said = getattr(exc, "reason", None) or str(exc)  # one that Python itself has raised has no reason
    remedy = next((text for reason, text in REMEDIES_BY_REASON.items() if reason in said), "")
    return f"and we cannot agree on TLS: {said}" + (f"; {remedy}" if remedy else "")


class TlsContexts:
    """
    Makes contexts from settings, anew whenever a file has changed; several threads may ask at once.

    *of* is what errors call the settings.

    Attributes:
        loads: How often the files were read.
    """

    def __init__(self, settings: TlsSettings, of: str = "store.tls") -> None:
        self.settings = settings
        self._of = of
        self.loads = 0
        self._context: ssl.SSLContext | None = None
        self._read: tuple[tuple[int, int], ...] = ()
        # All lanes ask together after an outage: one of them reads the files, the others take what it made.
        self._reading = threading.Lock()

    def current(self) -> ssl.SSLContext:
        """
        Return the context for a new connection.

        Raises:
            ConfigError: A file cannot be read or used; the text names it.
        """
        with self._reading:
            stamps = tuple(stamp(path, self._of) for path in self.settings.files)
            if self._context is None or stamps != self._read:
                self._context = make_context(self.settings, self._of)
                self._read = stamps
                self.loads += 1
            return self._context


def stamp(path: Path, of: str = "store.tls") -> tuple[int, int]:
    """
    Return what changes when a file is replaced.

    Raises:
        ConfigError: It is not there.
    """
    try:
        told = path.stat()
    except OSError as exc:
        raise ConfigError(f"{of}: {path} cannot be read: {exc.strerror or exc}") from exc
    return told.st_mtime_ns, told.st_ino


def make_context(settings: TlsSettings, of: str = "store.tls") -> ssl.SSLContext:
    """
    Make a context; trusted are the given authority alone, or the system's own.

    Raises:
        ConfigError: A file cannot be read or used; the text names it.
    """
    path = settings.ca
    try:
        context = ssl.create_default_context(cafile=None if path is None else str(path))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate is not None:
            path = settings.certificate
            context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"{of}: {path} cannot be used: {exc}; it must be PEM and readable") from exc
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
