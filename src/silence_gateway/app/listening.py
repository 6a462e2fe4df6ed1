"""The admin listener of a process, wherever what it shows comes from."""

from __future__ import annotations

from collections.abc import Sequence

from silence_gateway.admin.contracts import Instance
from silence_gateway.admin.handler import AdminHandler
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.clock import Clock
from silence_gateway.core.http import stack
from silence_gateway.edge.listen import open_sockets
from silence_gateway.edge.problems import answer_errors
from silence_gateway.edge.server import HttpServer
from silence_gateway.edge.settings import ServerSettings
from silence_gateway.events import Observer

# Enough for every dashboard, scraper and operator at once; a flood of connections stops here.
MAX_ADMIN_CONNECTIONS = 256


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


def listen_addresses(config: GatewayConfig) -> Sequence[str]:
    """Return the addresses of the main listener as text."""
    return [str(address) for address in config.listen]
