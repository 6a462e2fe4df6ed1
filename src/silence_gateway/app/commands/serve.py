"""`silence run` and `silence demo`: the two commands that stay."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click

from silence_gateway.app.commands.options import config_option
from silence_gateway.app.config.load import load
from silence_gateway.app.config.loaded import LoadedConfig
from silence_gateway.app.exit_codes import OK


@click.command()
@config_option
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    default=None,
    envvar="SILENCE_WORKERS",
    show_default="`workers` of the file",
    show_envvar=True,
    help="Worker processes.",
)
@click.option(
    "--check",
    "only_check",
    is_flag=True,
    envvar="SILENCE_CHECK",
    show_default=True,
    show_envvar=True,
    help="Check the file, print what is wrong with it, and do not serve.",
)
def run(config_path: Path, workers: int | None, *, only_check: bool) -> int:
    """Serve what the configuration file says, until SIGTERM or Ctrl-C."""
    loaded = load(config_path)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    if only_check:
        click.echo(f"{config_path}: ok (digest {loaded.digest})")
        return OK
    # Imported here: checking a file needs neither an event loop nor a store.
    serve: Callable[[LoadedConfig, int], int] = import_module("silence_gateway.app.run").run
    return serve(loaded, loaded.config.workers if workers is None else workers)


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    envvar="SILENCE_DEMO_PORT",
    show_default=True,
    show_envvar=True,
    help="Port of the gateway on 127.0.0.1; 0 picks a free one.",
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    default=9900,
    envvar="SILENCE_DEMO_ADMIN_PORT",
    show_default=True,
    show_envvar=True,
    help="Port of the admin API on 127.0.0.1; 0 picks a free one.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    default=1,
    envvar="SILENCE_WORKERS",
    show_default=True,
    show_envvar=True,
    help="Worker processes.",
)
def demo(port: int, admin_port: int, workers: int) -> int:
    """
    Show it all on this machine: a store, a sample service with three replicas, a gateway, some load.

    Prints what to try. Keys on a terminal: k stops and starts the store, u a replica, q ends the demo.
    """
    if port and port == admin_port:
        raise click.UsageError(f"--port and --admin-port are both {port}: choose two")
    show: Callable[[int, int, int], int] = import_module("silence_gateway.app.demo").demo
    return show(port, admin_port, workers)
