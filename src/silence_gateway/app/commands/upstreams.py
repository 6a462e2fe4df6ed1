"""`silence upstreams`: how the upstreams of a running gateway are, and what to do about their endpoints."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from time import sleep
from typing import Any
from urllib.parse import urlencode

import click

from silence_gateway.app.commands.limits import Asking, InOrder, asks, nearest, path_part, your_input
from silence_gateway.app.commands.options import DurationType
from silence_gateway.app.exit_codes import OK
from silence_gateway.app.tables import printable
from silence_gateway.app.upstream_details import one_upstream
from silence_gateway.app.upstream_tables import overview, plain
from silence_gateway.app.watching import repeat, watch
from silence_gateway.clock import SystemClock

PATH = "/api/v1/upstreams"
LEAST_WATCH_S = 0.1
PLAIN_WIDTH = 80
"""How wide a table is where there is no terminal to ask."""

BREAKER_WORDS = ("open", "closed", "auto")

View = Callable[..., str]


def watches(function: Callable[..., int]) -> Any:
    """Add the options for showing something again and again."""
    for option in reversed(
        (
            click.option(
                "-w", "--watch", "watched", is_flag=True, envvar="SILENCE_WATCH", show_envvar=True,
                show_default=True, help="Show it again and again, until Ctrl-C.",
            ),
            click.option(
                "--every", "every_s", type=DurationType(), default="2s", envvar="SILENCE_WATCH_EVERY",
                show_envvar=True, show_default=True, help="How often, with --watch.",
            ),
        )
    ):  # fmt: skip
        function = option(function)
    return function


@click.group(cls=InOrder, invoke_without_command=True)
@watches
@asks
def upstreams(asking: Asking, *, watched: bool, every_s: float) -> int:
    """
    Show upstreams: each endpoint, whether it takes calls, and if not, why.

    `/min`, `failed`, `p50` and `p99` are of the last minute. The commands below look closer, and change
    things.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return OK
    return shown(asking, "", overview, watched=watched, every_s=every_s)


@upstreams.command()
@watches
@asks
@click.argument("name")
@click.argument("endpoint", required=False)
def show(asking: Asking, name: str, endpoint: str | None, *, watched: bool, every_s: float) -> int:
    """
    Show all there is to know about the upstream NAME.

    Of all its endpoints or of one ENDPOINT: calls by code, latencies, connections, bytes, who checks its
    health, what last went wrong, and what its circuit breaker did. Counts are since the last reset-stats.
    """
    context = click.get_current_context()
    watched, every_s = nearest(context, "watched"), nearest(context, "every_s")
    view = one_upstream if endpoint is None else partial(one_upstream, only=endpoint)
    return shown(asking, f"/{path_part(name)}", view, watched=watched, every_s=every_s)


@upstreams.command(name="reset-stats")
@asks
@click.argument("name", required=False)
@click.option(
    "--all", "every", is_flag=True, envvar="SILENCE_UPSTREAMS_ALL", show_envvar=True, show_default=True,
    help="Of every upstream.",
)  # fmt: skip
def reset_stats(asking: Asking, name: str | None, *, every: bool) -> int:
    """
    Begin the statistics of NAME anew.

    In the whole fleet. Metrics go on, and what is remembered stays: last errors, moves of breakers.
    """
    if every == (name is not None):
        raise click.UsageError("give the NAME of an upstream, or --all")
    with your_input():
        of = "" if name is None else f"/{path_part(name)}"
        body = asking.admin.ask_json("DELETE", f"{PATH}{of}/stats")
    said = body if isinstance(body, Mapping) else {}
    names = ", ".join(map(str, said.get("reset") or []))
    return asking.say(body, f"begun anew: {names or 'nothing'}{only_here(said)}")


def why(function: Callable[..., int]) -> Any:
    """Add the option for a reason."""
    return click.option(
        "--reason", default="", envvar="SILENCE_UPSTREAMS_REASON", show_envvar=True, show_default="none",
        help="Why, in at most 64 characters; shown to whoever looks, and in the log.",
    )(function)  # fmt: skip


@upstreams.command()
@asks
@click.argument("upstream")
@click.argument("endpoint")
@why
def drain(asking: Asking, upstream: str, endpoint: str, reason: str) -> int:
    """
    Give ENDPOINT no new calls.

    In the whole fleet, until `silence upstreams activate`. What is in flight finishes.
    """
    asked = {"state": "drain"} | because(reason)
    return put(asking, upstream, endpoint, asked, f"{upstream} {endpoint}: drained")


@upstreams.command()
@asks
@click.argument("upstream")
@click.argument("endpoint")
@why
def activate(asking: Asking, upstream: str, endpoint: str, reason: str) -> int:
    """Give ENDPOINT calls again, after a drain."""
    asked = {"state": "active"} | because(reason)
    return put(asking, upstream, endpoint, asked, f"{upstream} {endpoint}: active")


@upstreams.command()
@asks
@click.argument("upstream")
@click.argument("which", metavar="[ENDPOINT] open|closed|auto", nargs=-1, required=True)
@why
@click.option(
    "--ttl", default="1h", envvar="SILENCE_UPSTREAMS_TTL", show_envvar=True, show_default=True,
    help="How long, such as 10m, from 1s to 30d; then as with auto.",
)  # fmt: skip
def breaker(asking: Asking, upstream: str, which: tuple[str, ...], reason: str, ttl: str) -> int:
    """
    Hold a circuit breaker open or closed in the whole fleet, or leave it to itself again.

    It is that of one endpoint or, without ENDPOINT, that of the upstream as a whole. The later word counts.
    """
    *endpoints, word = which
    if word not in BREAKER_WORDS or len(endpoints) > 1:
        raise click.UsageError(
            f"say {', '.join(BREAKER_WORDS)} at the end, and at most one endpoint before it"
        )
    if not ttl:
        raise click.UsageError("--ttl: say how long, such as 10m")
    asked = {"breaker": word} | because(reason) | ({} if word == "auto" else {"ttl": ttl})
    what = f"circuit breaker {word}" if word == "auto" else f"circuit breaker held {word} for {ttl}"
    return put(
        asking,
        upstream,
        endpoints[0] if endpoints else None,
        asked,
        f"{' '.join([upstream, *endpoints])}: {what}",
    )


def because(reason: str) -> dict[str, str]:
    """Return what to ask with if there is a reason."""
    return {"reason": reason} if reason else {}


def put(asking: Asking, upstream: str, endpoint: str | None, asked: Mapping[str, str], text: str) -> int:
    """Say something about an endpoint or the upstream as a whole; *text* is what was done by that."""
    path = f"{PATH}/{path_part(upstream)}"
    if endpoint is not None:
        path += f"/endpoints/{path_part(endpoint)}"
    with your_input():
        body = asking.admin.ask_json("PUT", f"{path}?{urlencode(asked)}")
    said = body if isinstance(body, Mapping) else {}
    if said.get("warning"):
        click.echo(f"warning: {printable(str(said['warning']))}", err=True)
    return asking.say(body, text + only_here(said))


def only_here(said: Mapping[str, Any]) -> str:
    """Return what to add where the rest of the fleet could not be told."""
    if said.get("fleet") is not False:
        return ""
    return " (at this instance: there is no store to tell others, or it is away)"


def shown(asking: Asking, path: str, view: View, *, watched: bool, every_s: float) -> int:
    """Print what the admin API answers at *path*, once or again and again."""
    clock = SystemClock()
    on_screen = sys.stdout.isatty()
    paint = painted if on_screen and "NO_COLOR" not in os.environ else plain

    def draw() -> str:
        with your_input():
            body = asking.admin.ask_json("GET", f"{PATH}{path}")
        if asking.as_json:
            return json.dumps(body, indent=None if watched else 2)
        # Looked up each time: a window may be made wider while somebody watches.
        width = shutil.get_terminal_size().columns if on_screen else PLAIN_WIDTH
        return view(body, clock.now_us(), width=width, paint=paint)

    if not watched:
        click.echo(draw(), color=True if paint is painted else None)
        return OK
    every_s = max(every_s, LEAST_WATCH_S)
    if asking.as_json:
        repeat(draw, every_s=every_s, say=say, sleep=sleep)
    else:
        watch(draw, every_s=every_s, on_screen=on_screen, say=say, sleep=sleep, now_us=clock.now_us)
    return OK


def say(text: str) -> None:
    """Write *text* at once: who reads it may be a pipe."""
    sys.stdout.write(text)
    sys.stdout.flush()


def painted(text: str, colour: str) -> str:
    """Return *text* in a colour, for a terminal."""
    return click.style(text, fg=colour)
