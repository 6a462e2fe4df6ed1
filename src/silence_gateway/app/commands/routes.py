"""`silence routes` and `silence explain`: what would be served, and why."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from dataclasses import asdict
from pathlib import Path

import click

from silence_gateway.app.commands.options import DurationType, config_option, json_option
from silence_gateway.app.config.load import load
from silence_gateway.app.config.loaded import LoadedConfig
from silence_gateway.app.config.matching import METHODS
from silence_gateway.app.exit_codes import BAD_INPUT, FAILED, OK
from silence_gateway.app.explain import Step, explain_request, read_header
from silence_gateway.app.routes_table import Described, RouteLine, describe_upstreams, route_lines
from silence_gateway.app.tables import table
from silence_gateway.clock import SystemClock
from silence_gateway.core.http import Request
from silence_gateway.errors import BadRequest

timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=DurationType(),
    default="5s",
    envvar="SILENCE_ROUTES_TIMEOUT",
    show_default=True,
    show_envvar=True,
    help="Longest time to wait for the upstreams' descriptors.",
)


def tell_silent(described: Described) -> int:
    """Name the upstreams that could not be read; returns the exit code for that."""
    for name, reason in described.silent:
        click.echo(f"upstream {name} cannot be read, its methods are missing here: {reason}", err=True)
    return FAILED if described.silent else OK


@click.command()
@config_option
@timeout_option
@json_option
def routes(config_path: Path, timeout_s: float, *, as_json: bool) -> int:
    """
    List everything that would be served: method, path, upstream, RPC, limits.

    A path that is rewritten has behind it what the service is asked for.
    Rules that cannot be used are listed with the reason. A limit with ? counts only some of the paths.
    Exit code 3 if an upstream could not be asked.
    """
    loaded = load(config_path)
    described = asyncio.run(describe_upstreams(loaded.config, SystemClock(), timeout_s))
    lines = route_lines(loaded.config, described.services)
    click.echo(json.dumps([asdict(line) for line in lines], indent=2) if as_json else route_text(lines))
    return tell_silent(described)


def shown_path(line: RouteLine) -> str:
    """Return the path of *line*, and what it becomes at the service if that is another one."""
    return f"{line.path} -> {line.rewrite.rstrip('/')}/**" if line.rewrite else line.path


def route_text(lines: list[RouteLine]) -> str:
    """Return the routes as a table, and below it what is not served."""
    served = [line for line in lines if not line.problem]
    text = (
        table(
            ("method", "path", "upstream", "rpc", "limits"),
            [
                (line.method, shown_path(line), line.upstream, line.rpc, ", ".join(line.limits))
                for line in served
            ],
        )
        if served
        else "(no routes)"
    )
    broken = [line for line in lines if line.problem]
    if broken:
        rows = [
            (line.upstream, line.rpc, f"{line.method} {line.path}".strip(), line.problem) for line in broken
        ]
        text += "\n\nnot served:\n" + table(("upstream", "rpc", "rule", "why"), rows, whole_last=True)
    return text


def read_headers(given: tuple[str, ...]) -> dict[bytes, bytes]:
    """Return `NAME:VALUE` texts as a request's headers."""
    headers: dict[bytes, bytes] = {b"host": b"localhost"}
    for text in given:
        try:
            name, value = read_header(text)
        except ValueError as exc:
            raise click.BadParameter(str(exc), param_hint="--header") from exc
        headers[name] = value
    return headers


@click.command()
@config_option
@timeout_option
@json_option
@click.option(
    "--ip",
    default="127.0.0.1",
    envvar="SILENCE_EXPLAIN_IP",
    show_envvar=True,
    show_default=True,
    help="Address that the request comes from.",
)
@click.option(
    "--header",
    "given",
    multiple=True,
    metavar="NAME:VALUE",
    envvar="SILENCE_EXPLAIN_HEADERS",
    show_envvar=True,
    show_default="none",
    help="A header of it; repeatable. In the environment a space stands between two.",
)
@click.argument("method", type=click.Choice(METHODS, case_sensitive=False))
@click.argument("target")
def explain(
    config_path: Path,
    timeout_s: float,
    ip: str,
    given: tuple[str, ...],
    method: str,
    target: str,
    *,
    as_json: bool,
) -> int:
    """
    Say what would become of the request METHOD TARGET, such as GET /v1/things, and why.

    Nothing is called and nothing is spent. Exit code 3 if an upstream could not be asked.
    """
    if not target.startswith("/"):
        raise click.BadParameter(f"{target[:60]!r} is not a path: begin it with '/'", param_hint="TARGET")
    try:
        ipaddress.ip_address(ip)
    except ValueError as exc:
        raise click.BadParameter(f"{ip[:60]!r} is not an address", param_hint="--ip") from exc
    request = Request(method.upper(), target, read_headers(given), peer=ip)
    loaded = load(config_path)
    try:
        described, steps = asyncio.run(_explain(loaded, request, timeout_s))
    except BadRequest as exc:
        click.echo(f"400 bad request: {exc}")
        return BAD_INPUT
    if as_json:
        click.echo(json.dumps([asdict(step) for step in steps], indent=2))
    else:
        rows = [(step.what, step.decided, step.why) for step in steps]
        click.echo(table(("step", "decided", "why"), rows, whole_last=True))
    return tell_silent(described)


async def _explain(loaded: LoadedConfig, request: Request, timeout_s: float) -> tuple[Described, list[Step]]:
    described = await describe_upstreams(loaded.config, SystemClock(), timeout_s)
    return described, await explain_request(loaded.config, described.services, request)
