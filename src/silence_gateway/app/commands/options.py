"""Options that several commands share, so that they look and default alike everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from silence_gateway.app.admin_client import AdminClient
from silence_gateway.app.config.quantities import parse_duration

config_option = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("gateway.yaml"),
    envvar="SILENCE_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The configuration file.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, envvar="SILENCE_JSON", show_envvar=True, show_default=True,
    help="Print JSON instead of a table.",
)  # fmt: skip


class DurationType(click.ParamType[float, str]):
    """A duration on the command line, written as in the file."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read *value*; click asks with the default already read, too."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


def admin_options(command: Any) -> Any:
    """Add the options that say where the admin API is; the command gets an `AdminClient` as `admin`."""
    for option in reversed(
        (
            click.option(
                "--admin",
                "admin_url",
                default="http://127.0.0.1:9900",
                envvar="SILENCE_ADMIN",
                show_default=True,
                show_envvar=True,
                help="The admin API: http://HOST:PORT, https://HOST:PORT or unix:PATH.",
            ),
            click.option(
                "--token",
                "admin_token",
                default="",
                envvar="SILENCE_ADMIN_TOKEN",
                show_default="none",
                show_envvar=True,
                help="Its bearer token; better given by the environment, where `ps` does not show it.",
            ),
            click.option(
                "--timeout",
                "timeout_s",
                type=DurationType(),
                default="5s",
                envvar="SILENCE_ADMIN_TIMEOUT",
                show_default=True,
                show_envvar=True,
                help="Longest time to wait for an answer.",
            ),
        )
    ):
        command = option(command)
    return command


def client(admin_url: str, admin_token: str, timeout_s: float) -> AdminClient:
    """Return the admin API that the options name."""
    return AdminClient(admin_url, admin_token, max(timeout_s, 0.001))
