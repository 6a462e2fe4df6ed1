"""`silence limits`: how the limits of a running gateway are used, and what single keys have left."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import click
from click.core import ParameterSource

from silence_gateway.app import limit_tables
from silence_gateway.app.admin_client import AdminClient, AdminRefused, WrongInput
from silence_gateway.app.commands.options import admin_options, client, json_option
from silence_gateway.app.config.matching import METHODS
from silence_gateway.app.exit_codes import OK
from silence_gateway.app.fleet_tables import limits_table
from silence_gateway.clock import SystemClock


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom to ask, and how to say what was answered."""

    admin: AdminClient
    as_json: bool

    def ask(self, method: str, path: str, /, **query: str | int | tuple[str, ...]) -> Any:
        """
        Return what the admin API answers below `limits`.

        Raises:
            AdminUnreachable: As for `AdminClient.ask_json`.
        """
        asked = f"?{urlencode(query, doseq=True)}" if query else ""
        return self.admin.ask_json(method, f"/api/v1/limits{path}{asked}")

    def limit(self, name: str) -> Mapping[str, Any]:
        """
        Return everything about one limit.

        Raises:
            WrongInput: There is none of that name.
        """
        with your_input():
            found = self.ask("GET", f"/{path_part(name)}")
        return found if isinstance(found, Mapping) else {}

    def key(self, method: str, name: str, key: str, more: str = "", /, **query: str | int) -> Any:
        """
        Ask about one key of a limit, or change something about it; *more* is the rest of the path.

        Raises:
            WrongInput: There is no such limit, it has no such keys, or what is asked for is impossible.
        """
        path = key_path(self.limit(name), name, key)
        # The limit is there: where nothing is served now, this gateway knows no such change.
        with your_input(400):
            return self.ask(method, f"{path}{more}", **query)

    def say(self, body: Any, text: str) -> int:
        """Print *body* or what it means; returns the exit code."""
        click.echo(json.dumps(body, indent=2) if self.as_json else text)
        return OK


def asks(function: Callable[..., int]) -> Any:
    """Add the options that say whom to ask; they may stand before or after the name of the command."""

    @admin_options
    @json_option
    @click.pass_context
    @functools.wraps(function)
    def command(ctx: click.Context, /, **given: Any) -> int:
        for name in ("admin_url", "admin_token", "timeout_s", "as_json"):
            given[name] = nearest(ctx, name)
        admin = client(given.pop("admin_url"), given.pop("admin_token"), given.pop("timeout_s"))
        asking = Asking(admin, as_json=given.pop("as_json"))
        return function(asking, **given)

    return command


def nearest(ctx: click.Context, name: str) -> Any:
    """Return an option as given after the command's name, else before it, else by environment or default."""
    outer = ctx.parent
    if (
        ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE
        and outer is not None
        and outer.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ):
        return outer.params[name]
    return ctx.params[name]


@contextmanager
def your_input(*statuses: int) -> Iterator[None]:
    """Take refusals with one of *statuses*, 400 and 404 if none is named, for what the user got wrong."""
    try:
        yield
    except AdminRefused as exc:
        if exc.status in (statuses or (400, 404)):
            raise WrongInput(exc.reason) from exc
        raise


def path_part(text: str) -> str:
    """Return *text* as one segment of a path."""
    if not text:
        raise WrongInput("an empty name or key cannot be asked for")
    return quote(text, safe="", errors="surrogateescape")


def key_path(limit: Mapping[str, Any], name: str, key: str) -> str:
    """
    Return the path of a key, which is written as the admin API writes keys.

    One of several parts is joined by `,` with each part percent-encoded, and goes as it is; any other is
    the plain value, whatever is in it.

    Raises:
        WrongInput: The key has more or fewer parts than the limit counts by.
    """
    parts = limit.get("key")
    if not isinstance(parts, list) or len(parts) < 2:
        return f"/{path_part(name)}/keys/{path_part(key)}"
    if key.count(",") != len(parts) - 1:
        raise WrongInput(
            f"limit {name} counts by {', '.join(map(str, parts))}: write one value for each, joined by ',' "
            "(a comma in a value as %2C, a percent sign as %25)"
        )
    return f"/{path_part(name)}/keys/{quote(key, safe='%,', errors='surrogateescape')}"


class InOrder(click.Group):
    """A group that lists its commands as they stand in this file."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help text."""
        del ctx
        return list(self.commands)


@click.group(cls=InOrder, invoke_without_command=True)
@asks
def limits(asking: Asking) -> int:
    """
    List the limits of a running gateway and what they counted.

    The commands below look closer, and change things.
    """
    return list_all(asking) if click.get_current_context().invoked_subcommand is None else OK


def list_all(asking: Asking) -> int:
    """Print every limit."""
    body = asking.ask("GET", "")
    return asking.say(body, limits_table(body, SystemClock().now_us()))


@limits.command(name="list")
@asks
def list_limits(asking: Asking) -> int:
    """List them, as without a command."""
    return list_all(asking)


@limits.command()
@asks
@click.argument("name")
@click.argument("key", required=False)
@click.option(
    "--cost", type=click.IntRange(1, 1_000_000), default=1, envvar="SILENCE_LIMITS_COST",
    show_envvar=True, show_default=True, help="Say whether so much would pass.",
)  # fmt: skip
def show(asking: Asking, name: str, key: str | None, cost: int) -> int:
    """
    Show what KEY has left of the limit NAME, and whether one more use would pass now.

    Nothing is spent. Without KEY: how the limit is used, and by whom. A key of several parts is joined by
    `,`, each part percent-encoded: 192.0.2.1,a%2Cb
    """
    if key is None:
        if cost != 1:
            raise click.UsageError("--cost is about one key: give the KEY too")
        body = asking.limit(name)
        return asking.say(body, limit_tables.one_limit(body, SystemClock().now_us()))
    body = asking.key("GET", name, key, **({} if cost == 1 else {"cost": cost}))
    return asking.say(body, limit_tables.one_key(body))


@limits.command()
@asks
@click.argument("name")
@click.option(
    "--window", type=click.Choice(["1m", "1h"]), default="1h", envvar="SILENCE_LIMITS_WINDOW",
    show_envvar=True, show_default=True, help="The last minute or the last hour.",
)  # fmt: skip
@click.option(
    "--by", type=click.Choice(["requests", "denied"]), default="requests", envvar="SILENCE_LIMITS_BY",
    show_envvar=True, show_default=True, help="Most requests, or most refusals.",
)  # fmt: skip
@click.option(
    "--limit", "wanted", type=click.IntRange(1, 100), default=20, envvar="SILENCE_LIMITS_TOP",
    show_envvar=True, show_default=True, help="Most to list.",
)  # fmt: skip
def top(asking: Asking, name: str, window: str, by: str, wanted: int) -> int:
    """
    List who uses the limit NAME most.

    Or who is refused by it most: --by denied.
    """
    with your_input():
        body = asking.ask("GET", "/top", name=name, window=window, by=by, limit=wanted)
    return asking.say(body, limit_tables.top_keys(body))


@limits.command()
@asks
@click.argument("name")
@click.argument("key")
def reset(asking: Asking, name: str, key: str) -> int:
    """Forget what KEY has spent of the limit NAME."""
    body = asking.key("DELETE", name, key)
    forgotten = isinstance(body, Mapping) and body.get("reset")
    return asking.say(body, limit_tables.about_key(body, "forgotten" if forgotten else "nothing to forget"))


@limits.command(name="reset-stats")
@asks
@click.argument("name", required=False)
@click.option(
    "--all", "every", is_flag=True, envvar="SILENCE_LIMITS_ALL", show_envvar=True, show_default=True,
    help="Of every limit.",
)  # fmt: skip
def reset_stats(asking: Asking, name: str | None, *, every: bool) -> int:
    """
    Begin the statistics of NAME anew.

    In the whole fleet. What its keys have spent is not touched.
    """
    if every == (name is not None):
        raise click.UsageError("give the NAME of a limit, or --all")
    with your_input():
        body = asking.ask("DELETE", "/stats" if name is None else f"/{path_part(name)}/stats")
    return asking.say(body, limit_tables.begun_anew(body))


@limits.command()
@asks
@click.argument("name")
@click.argument("key")
@click.argument("uses", type=click.IntRange(1, 1_000_000_000))
def grant(asking: Asking, name: str, key: str, uses: int) -> int:
    """Give KEY so many USES of the limit NAME."""
    body = asking.key("POST", name, key, "/grant", uses=uses)
    said = body if isinstance(body, Mapping) else {}
    what = f"{said.get('given_back')} of what it had spent given back"
    if said.get("remaining") == 0:
        what += "; it is still blocked (block_for), which `silence limits reset` ends"
    return asking.say(body, limit_tables.about_key(body, what))


@limits.command()
@asks
@click.argument("name")
@click.argument("key")
@click.option(
    "--rate", envvar="SILENCE_LIMITS_RATE", show_envvar=True, show_default="the limit's",
    help="Another rate, such as 500/minute.",
)  # fmt: skip
@click.option(
    "--burst", type=click.IntRange(1), envvar="SILENCE_LIMITS_BURST", show_envvar=True,
    show_default="the limit's", help="Another size of its bucket.",
)  # fmt: skip
@click.option(
    "--max", "most", type=click.IntRange(1), envvar="SILENCE_LIMITS_MAX", show_envvar=True,
    show_default="the limit's", help="Another number at once.",
)  # fmt: skip
@click.option(
    "--unlimited", is_flag=True, envvar="SILENCE_LIMITS_UNLIMITED", show_envvar=True, show_default=True,
    help="Nothing is counted or refused.",
)  # fmt: skip
@click.option(
    "--blocked", is_flag=True, envvar="SILENCE_LIMITS_BLOCKED", show_envvar=True, show_default=True,
    help="Everything is refused.",
)  # fmt: skip
@click.option(
    "--ttl", envvar="SILENCE_LIMITS_TTL", show_envvar=True, show_default="for ever",
    help="For how long, such as 10m.",
)  # fmt: skip
@click.option(
    "--reason", envvar="SILENCE_LIMITS_REASON", show_envvar=True, show_default="none",
    help="Why, for those who find it later.",
)  # fmt: skip
@click.option(
    "--remove", is_flag=True, envvar="SILENCE_LIMITS_REMOVE", show_envvar=True, show_default=True,
    help="Take back what holds for it.",
)  # fmt: skip
def override(asking: Asking, name: str, key: str, *, remove: bool, most: int | None, **wanted: Any) -> int:
    """
    Let something else hold for KEY than for all others of the limit NAME.

    In the whole fleet, at once, until its --ttl is over or it is removed.
    """
    said = {word: value for word, value in {**wanted, "max": most}.items() if value}
    if remove:
        if said:
            raise click.UsageError("--remove goes alone: it takes back all that holds for the key")
        with your_input():
            body = asking.key("DELETE", name, key, "/override")
        return asking.say(body, limit_tables.about_key(body, "as for all others again"))
    query = {word: "true" if value is True else value for word, value in said.items()}
    body = asking.key("PUT", name, key, **query)
    return asking.say(body, limit_tables.overridden(body))


@limits.command()
@asks
@click.option(
    "--ip", default="127.0.0.1", envvar="SILENCE_LIMITS_IP", show_envvar=True, show_default=True,
    help="Address that the request comes from.",
)  # fmt: skip
@click.option(
    "--header",
    "given",
    multiple=True,
    metavar="NAME:VALUE",
    envvar="SILENCE_LIMITS_HEADERS",
    show_envvar=True,
    show_default="none",
    help="A header of it; repeatable. In the environment a space stands between two.",
)
@click.argument("method", type=click.Choice(METHODS, case_sensitive=False))
@click.argument("path")
def explain(asking: Asking, ip: str, given: tuple[str, ...], method: str, path: str) -> int:
    """
    Say whether a request would pass now, and which limits it would meet.

    In which order, by which keys, what is left of each, and if it is refused, until when; at a running
    gateway. Nothing is called and nothing is spent. `silence explain` tells of a file which limits there are.
    """
    query: dict[str, str | tuple[str, ...]] = {"method": method.upper(), "path": path, "ip": ip}
    if given:
        query["header"] = given
    with your_input():
        body = asking.ask("GET", "/explain", **query)
    return asking.say(body, limit_tables.explained(body))
