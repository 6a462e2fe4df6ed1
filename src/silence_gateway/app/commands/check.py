"""`silence check` and `silence schema`: is this file right, and what may be in it?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from silence_gateway.app.config.load import load
from silence_gateway.app.config.schema import json_schema
from silence_gateway.app.exit_codes import BAD_INPUT, OK
from silence_gateway.errors import ConfigError


@click.command()
@click.argument(
    "file", type=click.Path(path_type=Path), default=Path("gateway.yaml"), envvar="SILENCE_CONFIG"
)
def check(file: Path) -> int:
    """
    Check FILE (default gateway.yaml, or SILENCE_CONFIG): syntax, values, and whether all fits together.

    Every problem is one line, `file:line:col: message`, on standard output. Exit code 0: it can run;
    1: it cannot.
    """
    try:
        loaded = load(file)
    except ConfigError as exc:
        click.echo("\n".join(exc.problems))
        count = len(exc.problems)
        click.echo(f"{count} problem{'' if count == 1 else 's'}", err=True)
        return BAD_INPUT
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}")
    click.echo(f"{file}: ok (digest {loaded.digest})")
    return OK


@click.command()
def schema() -> int:
    """Print the JSON Schema of the configuration file, for editors and other tools."""
    json.dump(json_schema(), sys.stdout, indent=2, ensure_ascii=False)
    click.echo()
    return OK
