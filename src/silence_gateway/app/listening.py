"""
Where a gateway listens: the doors for callers, which every worker has sockets of, and the admin listener.

A door has a name in the file, any number of addresses, and one server behind it.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from silence_gateway.admin.contracts import Instance
from silence_gateway.admin.handler import AdminHandler
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.clock import Clock
from silence_gateway.core.http import stack
from silence_gateway.edge.listen import open_sockets
from silence_gateway.edge.problems import answer_errors
from silence_gateway.edge.server import HttpServer
from silence_gateway.edge.settings import ServerSettings
from silence_gateway.errors import ConfigError
from silence_gateway.events import Observer

# Enough for every dashboard, scraper and operator at once; a flood of connections stops here.
MAX_ADMIN_CONNECTIONS = 256

Door: TypeAlias = Literal["listen", "rls.listen", "rls.json"]
"""A listener for callers, by the key that its addresses have in the file."""

Sockets: TypeAlias = Mapping[Door, Sequence[socket.socket]]
"""Listening sockets of one process; a door that is not served is not there."""


async def start_admin(
    config: GatewayConfig, instance: Instance, clock: Clock, observer: Observer
) -> HttpServer:
    """
    Open the admin listener and serve *instance* on it.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    token = config.admin.token.get_secret_value() if config.admin.token is not None else ""
    handler = stack(answer_errors(observer))(AdminHandler(instance, token))
    settings = ServerSettings(max_connections=MAX_ADMIN_CONNECTIONS, max_body_bytes=64 * 1024)
    server = HttpServer(handler, settings, clock, observer)
    await server.start(open_sockets([str(config.admin.listen)], reuse_port=False))
    return server


def door_addresses(config: GatewayConfig) -> Mapping[Door, Sequence[str]]:
    """Return the addresses of every door that is served, as text."""
    doors: dict[Door, Sequence[str]] = {"listen": [str(address) for address in config.listen]}
    if config.rls is not None and config.rls.listen is not None:
        doors["rls.listen"] = [str(config.rls.listen)]
    if config.rls is not None and config.rls.json_listen is not None:
        doors["rls.json"] = [str(config.rls.json_listen)]
    return doors


def describe_doors(config: GatewayConfig) -> str:
    """Return where callers are served, for people."""
    said = [
        ", ".join(addresses) + ("" if door == "listen" else f" ({door})")
        for door, addresses in door_addresses(config).items()
        if addresses
    ]
    return ", ".join(said)


def open_doors(config: GatewayConfig, workers: int = 1) -> list[Sockets]:
    """
    Open every door, and return the sockets of each worker.

    The kernel deals connections out among the workers' own sockets on a port. A unix socket cannot be opened
    twice: there all workers accept from the one.

    Raises:
        ConfigError: An address cannot be listened on; no socket is left open then.
    """
    opened: list[dict[Door, list[socket.socket]]] = [{} for _ in range(workers)]
    try:
        for door, addresses in door_addresses(config).items():
            for mine in opened:
                mine[door] = []
            for address in addresses:
                if address.startswith("unix:"):
                    shared = open_sockets([address], reuse_port=False)
                    for mine in opened:
                        mine[door] += shared
                else:
                    for mine in opened:
                        mine[door] += open_sockets([address], reuse_port=workers > 1)
    except ConfigError:
        close_doors(opened)
        raise
    return list(opened)


def close_doors(opened: Sequence[Sockets]) -> None:
    """Close the sockets of every worker; harmless when they are closed."""
    for doors in opened:
        for sockets in doors.values():
            for sock in sockets:
                sock.close()
