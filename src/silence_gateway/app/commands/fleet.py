"""The commands that ask a running gateway: sessions, nodes, drain, healthcheck."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import click

from silence_gateway.app.admin_client import AdminClient
from silence_gateway.app.commands.options import admin_options, client, json_option
from silence_gateway.app.exit_codes import FAILED, OK
from silence_gateway.app.fleet_tables import VIEWS
from silence_gateway.app.tables import cell
from silence_gateway.clock import SystemClock


def show(admin: AdminClient, path: str, *, as_json: bool) -> int:
    """Print what the admin API answers at *path*."""
    body: Any = admin.ask_json("GET", f"/api/v1/{path}")
    view = VIEWS[path.partition("?")[0]]
    click.echo(json.dumps(body, indent=2) if as_json else view(body, SystemClock().now_us()))
    return OK


@click.command()
@admin_options
@json_option
@click.option(
    "--user",
    default="",
    envvar="SILENCE_SESSIONS_USER",
    show_envvar=True,
    show_default="any",
    help="Only this user's sessions.",
)
@click.option(
    "--channel",
    default="",
    envvar="SILENCE_SESSIONS_CHANNEL",
    show_envvar=True,
    show_default="any",
    help="Only sessions in this channel.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    envvar="SILENCE_SESSIONS_LIMIT",
    show_envvar=True,
    show_default=True,
    help="Most to list.",
)
@click.option(
    "--cursor", default="", envvar="SILENCE_SESSIONS_CURSOR", show_envvar=True, show_default="the beginning",
    help="Go on where a list ended.",
)  # fmt: skip
def sessions(
    admin_url: str,
    admin_token: str,
    timeout_s: float,
    user: str,
    channel: str,
    limit: int,
    cursor: str,
    *,
    as_json: bool,
) -> int:
    """List the WebSocket sessions of the whole fleet."""
    wanted = {"user": user, "channel": channel, "limit": str(limit), "cursor": cursor}
    query = urlencode({key: value for key, value in wanted.items() if value})
    return show(client(admin_url, admin_token, timeout_s), f"sessions?{query}", as_json=as_json)


@click.command()
@admin_options
@json_option
def nodes(admin_url: str, admin_token: str, timeout_s: float, *, as_json: bool) -> int:
    """List the live instances of the fleet."""
    return show(client(admin_url, admin_token, timeout_s), "nodes", as_json=as_json)


@click.command()
@admin_options
def drain(admin_url: str, admin_token: str, timeout_s: float) -> int:
    """Let a running gateway finish what runs, take nothing new, and stop."""
    client(admin_url, admin_token, timeout_s).ask_json("POST", "/api/v1/drain")
    click.echo("draining")
    return OK


@click.command()
@admin_options
def healthcheck(admin_url: str, admin_token: str, timeout_s: float) -> int:
    """
    Ask a running gateway whether traffic may come: exit code 0 for ready and degraded, 3 for no.

    Made for container health checks: no other program is needed.
    """
    status, body = client(admin_url, admin_token, timeout_s).ask("GET", "/readyz")
    click.echo(cell(body[:200].decode(errors="replace").strip()))
    # Any page of any server may come with 200.
    return OK if status == 200 and body.split()[:1] in ([b"ready"], [b"degraded"]) else FAILED
