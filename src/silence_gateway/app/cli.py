"""
The `silence` command: names, help and exit codes. What a command does is in `commands/`.

Exit codes: 0 it worked, 1 the user's input is wrong, 2 the command line is wrong, 3 it failed at run
time (130 after Ctrl-C, as shells expect). Nobody is shown a traceback unless SILENCE_DEBUG=1 asks for it.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import version

import click

from silence_gateway.app.admin_client import WrongInput
from silence_gateway.app.exit_codes import BAD_INPUT, FAILED, INTERRUPTED, OK
from silence_gateway.errors import ConfigError, GatewayError

# Each command's module is imported when it is needed: `silence healthcheck` runs every few seconds.
COMMANDS = {
    "run": "serve",
    "demo": "serve",
    "check": "check",
    "schema": "check",
    "routes": "routes",
    "explain": "routes",
    "limits": "limits",
    "sessions": "fleet",
    "upstreams": "upstreams",
    "nodes": "fleet",
    "register": "register",
    "drain": "fleet",
    "healthcheck": "fleet",
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help text."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"silence_gateway.app.commands.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            from silence_gateway.app.config.kinds import closest

            hint = closest(args[0], list(COMMANDS))
            raise click.UsageError(f"there is no command {args[0][:60]!r}{hint}", ctx) from exc


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(version("silence-gateway"), message="silence-gateway %(version)s")
def cli() -> None:
    """
    Silence Gateway: one door for gRPC, HTTP and WebSocket services.

    Try `silence demo` first. With a file: `silence check gateway.yaml`, then `silence run -c gateway.yaml`.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run_command(arguments))


def run_command(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        # Not `cli.main`: it answers broken pipes and Ctrl-C itself, in its own way.
        with cli.make_context("silence", sys.argv[1:] if arguments is None else arguments) as context:
            code = cli.invoke(context)
        # Output that is still buffered fails here, where it is answered, and not at interpreter exit.
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_left()
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        _with_hint(exc).show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except Exception as exc:  # noqa: BLE001 - the last line of defence; `_explained` tells everything
        return _explained(exc)
    return code if isinstance(code, int) else OK


def _with_hint(exc: click.ClickException) -> click.ClickException:
    """Add how a file is named for those who wrote it as for `silence check`."""
    if not isinstance(exc, click.UsageError) or exc.ctx is None or "extra argument" not in exc.message:
        return exc
    takes = any(parameter.name == "config_path" for parameter in exc.ctx.command.params)
    if not takes or not exc.message.rstrip(")").endswith((".yaml", ".yml")):
        return exc
    return click.UsageError(f"{exc.message}. A configuration file is named with -c", exc.ctx)


def _reader_left() -> int:
    """Whoever read our output has seen enough; that is no failure."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return OK


def _explained(exc: Exception) -> int:
    """Print what went wrong and return the exit code for it."""
    if os.environ.get("SILENCE_DEBUG") == "1":
        import traceback

        traceback.print_exception(exc)
    if isinstance(exc, ConfigError):
        click.echo("\n".join(exc.problems), err=True)
        return BAD_INPUT
    if isinstance(exc, WrongInput):
        click.echo(f"error: {exc}", err=True)
        return BAD_INPUT
    if isinstance(exc, GatewayError):
        click.echo(f"error: {exc}", err=True)
    elif isinstance(exc, OSError):
        name = f": {exc.filename}" if exc.filename else ""
        click.echo(f"error: {exc.strerror or exc}{name}", err=True)
    else:
        click.echo(
            f"internal error: {type(exc).__name__}: {str(exc)[:500]}\n"
            "This is a mistake in Silence Gateway; SILENCE_DEBUG=1 shows where.",
            err=True,
        )
    return FAILED
