"""
Where to listen: addresses, sockets and TLS.

Everything here happens at start-up, and every error says what, where, and what to do about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from silence_gateway.errors import ConfigError

BACKLOG = 1024

# Forward secrecy and authenticated encryption only, as in Mozilla's intermediate set; TLS 1.3 has its own.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class Address:
    """
    A place to listen.

    Attributes:
        host: A name or address; empty for a unix socket.
        port: 0 lets the system choose.
        path: Of a unix socket; empty otherwise.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Address:
    """
    Read `127.0.0.1:8080`, `[::1]:8080` or `unix:PATH`.

    Raises:
        ConfigError: If *text* is none of them.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise ConfigError(f"listen address {text!r} names no path: write unix:/run/silence.sock")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not port.isascii() or not port.isdigit():
        raise ConfigError(f"listen address {text!r} is not HOST:PORT or unix:PATH: write 127.0.0.1:8080")
    if int(port) > 65535:
        raise ConfigError(f"listen address {text!r} has a port above 65535")
    if ":" in host and not bracketed:
        raise ConfigError(f"listen address {text!r}: put an IPv6 address in brackets, like [::1]:8080")
    return Address(host=host[1:-1] if bracketed else host, port=int(port))


def open_sockets(addresses: Sequence[Address | str], *, reuse_port: bool) -> list[socket.socket]:
    """
    Bind and listen on *addresses*.

    With *reuse_port* several processes may open the same address, and the kernel deals connections out.

    Raises:
        ConfigError: If one cannot be opened; none is left open then.
    """
    opened: list[socket.socket] = []
    try:
        for item in addresses:
            address = parse_listen(item) if isinstance(item, str) else item
            opened += open_unix(address) if address.path else open_tcp(address, reuse_port=reuse_port)
    except ConfigError:
        for sock in opened:
            sock.close()
        raise
    return opened


def open_tcp(address: Address, *, reuse_port: bool) -> list[socket.socket]:
    """
    Listen on every address that the host name of *address* stands for.

    Raises:
        ConfigError: If that is not possible.
    """
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address}: {address.host!r} is no address of this machine ({error})"
        ) from error
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, place in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            opened.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(place)
            sock.listen(BACKLOG)
            sock.setblocking(False)
    except OSError as error:
        for sock in opened:
            sock.close()
        raise ConfigError(explain(address, error)) from error
    return opened


def open_unix(address: Address) -> list[socket.socket]:
    """
    Listen on a unix socket; one that a dead process left behind is replaced.

    Raises:
        ConfigError: If that is not possible.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(Path(address.path).stat().st_mode) and not somebody_listens(address.path):
                Path(address.path).unlink()
        sock.bind(address.path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ConfigError(explain(address, error)) from error
    return [sock]


def somebody_listens(path: str) -> bool:
    """Whether a live process accepts connections at the unix socket *path*."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        return True


def explain(address: Address, error: OSError) -> str:
    """Return what to do about *error*."""
    if error.errno == errno.EADDRINUSE:
        return f"cannot listen on {address}: the address is in use; stop the other process or choose another"
    if error.errno == errno.EACCES:
        fix = (
            "check the directory's permissions"
            if address.path
            else "use a port from 1024 up, or give CAP_NET_BIND_SERVICE"
        )
        return f"cannot listen on {address}: permission denied; {fix}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {address}: no interface of this machine has that address"
    if error.errno == errno.ENOENT:
        return f"cannot listen on {address}: its directory does not exist"
    return f"cannot listen on {address}: {error}"


def server_tls(
    certificate: str, key: str, client_ca: str | None = None, *, protocol: str = "http/1.1"
) -> ssl.SSLContext:
    """
    Return what a server needs for TLS 1.2 and 1.3.

    Args:
        certificate: Path of the certificate chain, PEM.
        key: Path of its private key, PEM.
        client_ca: Path of the authorities whose client certificates are required; None asks for none.
        protocol: What is spoken, as ALPN calls it: `http/1.1` or `h2`.

    Raises:
        ConfigError: If a file is missing or is not what it should be.
    """
    for what, path in (("certificate", certificate), ("key", key), ("client_ca", client_ca)):
        if path is not None and not Path(path).is_file():
            raise ConfigError(f"tls.{what}: there is no file {path}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols([protocol])
    # A renegotiation costs us far more than it costs the client that asks for it.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        context.load_cert_chain(certificate, key, password=no_passphrase)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"tls: certificate {certificate} and key {key} cannot be used together: {error}; "
            "both must be PEM, belong together, and the key must have no passphrase"
        ) from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"tls.client_ca: {client_ca} has no PEM certificate: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def no_passphrase() -> str:
    """Answer for the operator, whom OpenSSL would otherwise ask on the terminal."""
    return ""


async def accept(
    sock: socket.socket,
    connection: Callable[[], asyncio.BaseProtocol],
    tls: ssl.SSLContext | None,
    handshake_s: float,
    linger_s: float | None = None,
) -> asyncio.Server:
    """
    Accept connections at a bound socket, which belongs to what is returned.

    Args:
        sock: TCP or unix.
        connection: Makes the protocol of each connection.
        tls: Encrypt with this context.
        handshake_s: Longest time for the handshake, in seconds.
        linger_s: Longest time for the goodbye of TLS; None for asyncio's own.
    """
    loop = asyncio.get_running_loop()
    safely = None if tls is None else handshake_s
    after = None if tls is None else linger_s
    if sock.family == socket.AF_UNIX:
        return await loop.create_unix_server(
            connection, sock=sock, ssl=tls, ssl_handshake_timeout=safely, ssl_shutdown_timeout=after
        )
    return await loop.create_server(
        connection,
        sock=sock,
        ssl=tls,
        ssl_handshake_timeout=safely,
        ssl_shutdown_timeout=after,
        backlog=BACKLOG,
    )
