"""`silence register`: a service's place in the store, for as long as the service or this command runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from pathlib import Path

import click

from silence_gateway.app.commands.options import DurationType
from silence_gateway.app.exit_codes import OK
from silence_gateway.events import Event
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.tls import TlsSettings
from silence_gateway.upstreams.registry import Registration
from silence_gateway.upstreams.self_check import KINDS, self_check
from silence_gateway.watch.logs import in_words

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name")
@click.argument("address")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--store",
    required=True,
    envvar="SILENCE_STORE",
    show_envvar=True,
    help="The gateways' store, as `store.url`; better given by the environment, where `ps` does not show it.",
)
@click.option(
    "--fleet", default="edge", envvar="SILENCE_FLEET", show_default=True, show_envvar=True,
    help="The gateways' `name`.",
)  # fmt: skip
@click.option(
    "--weight", type=click.IntRange(1, 100), default=1, show_default=True, help="Its share of the calls."
)
@click.option(
    "--priority", type=click.IntRange(0, 1000), default=0, show_default=True, help="Lower is used first."
)
@click.option("--zone", default="", help="Where it is, as `zone` of gateways.")
@click.option(
    "--check", type=click.Choice(KINDS), default="none", show_default=True,
    help="Register it while this goes well: grpc.health.v1, a connection, or a GET.",
)  # fmt: skip
@click.option("--check-path", default="/", show_default=True, help="What `--check http` asks for.")
@click.option(
    "--check-every", "check_every_s", type=DurationType(), default="5s", show_default=True,
    help="Time between checks; three bad ones in a row take it out, two good ones bring it back.",
)  # fmt: skip
@click.option(
    "--check-tls", is_flag=True, help="The service speaks TLS; so say the next four, each alone."
)  # fmt: skip
@click.option(
    "--check-ca", type=FILE, help="CA certificates that signed the service's; absent: the system's."
)
@click.option("--check-certificate", type=FILE, help="Our own certificate, for a service that asks for one.")
@click.option("--check-key", type=FILE, help="Its private key.")
@click.option(
    "--check-server-name", default="", help="Name that the service's certificate holds; absent: ADDRESS."
)
@click.option(
    "--store-ca", type=FILE, envvar="SILENCE_STORE_CA", show_envvar=True,
    help="CA certificates that signed a `valkeys://` store's; absent: the system's.",
)  # fmt: skip
@click.option(
    "--store-certificate", type=FILE, envvar="SILENCE_STORE_CERTIFICATE", show_envvar=True,
    help="Our own certificate, for a store that asks for one.",
)  # fmt: skip
@click.option(
    "--store-key", type=FILE, envvar="SILENCE_STORE_KEY", show_envvar=True, help="Its private key."
)  # fmt: skip
@click.option(
    "--store-password-file", type=FILE, envvar="SILENCE_STORE_PASSWORD_FILE", show_envvar=True,
    help="File that holds the store's password, read for every connection.",
)  # fmt: skip
@click.option(
    "--ttl", "ttl_s", type=DurationType(), default="15s", show_default=True,
    help="How long it stays registered if this command dies.",
)  # fmt: skip
@click.option(
    "--drain", "drain_s", type=DurationType(), default="2s", show_default=True,
    help="Time between leaving the store and ending COMMAND, for what gateways have begun.",
)  # fmt: skip
def register(
    name: str,
    address: str,
    command: tuple[str, ...],
    store: str,
    fleet: str,
    weight: int,
    priority: int,
    zone: str,
    check: str,
    check_path: str,
    check_every_s: float,
    check_tls: bool,
    check_ca: Path | None,
    check_certificate: Path | None,
    check_key: Path | None,
    check_server_name: str,
    store_ca: Path | None,
    store_certificate: Path | None,
    store_key: Path | None,
    store_password_file: Path | None,
    ttl_s: float,
    drain_s: float,
) -> int:
    """
    Register ADDRESS (host:port) as a replica of NAME until this is stopped, or until COMMAND ends.

    Gateways with `endpoints: {registry: NAME}` find it there. With a COMMAND, that is started and its exit
    code is passed on: `silence register --store valkey://store:6379 auth 10.0.0.5:9001 -- ./server`.
    """
    if command[:1] == ("--",):
        command = command[1:]  # what separates our options from the command's is not a part of it
    told_of_tls = check_tls or check_ca or check_certificate or check_key or check_server_name
    if told_of_tls and check == "none":
        raise click.UsageError("--check-tls and its like say how to check: add --check grpc, http or tcp")
    tls = (
        TlsSettings(ca=check_ca, certificate=check_certificate, key=check_key, server_name=check_server_name)
        if told_of_tls
        else None
    )
    registration = Registration(
        name,
        address,
        store=StoreSettings(
            url=store,
            tls=TlsSettings(ca=store_ca, certificate=store_certificate, key=store_key),
            password_file=store_password_file,
        ),
        fleet=fleet,
        weight=weight,
        priority=priority,
        zone=zone,
        ttl_s=ttl_s,
        check=self_check(check, address, path=check_path, tls=tls) or "none",
        check_every_s=check_every_s,
        observer=tell,
    )
    return asyncio.run(run(registration, command, drain_s, f"{address} is registered as {name!r}"))


for _option in register.params:
    # Whoever starts this is a container or a unit file as often as a person.
    if isinstance(_option, click.Option) and _option.envvar is None:
        _option.envvar = f"SILENCE_REGISTER_{_option.opts[0].removeprefix('--').replace('-', '_').upper()}"
        _option.show_envvar = True


def tell(event: Event) -> None:
    """Print what happens to the store and to the service."""
    click.echo(f"{event.level}: {in_words(event)}", err=True)


async def run(registration: Registration, command: Sequence[str], drain_s: float, done: str) -> int:
    """Register until a signal comes or *command* ends; return the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    child = await asyncio.create_subprocess_exec(*command) if command else None
    async with registration:
        stopped = asyncio.ensure_future(stop.wait())
        ended = stopped if child is None else asyncio.ensure_future(_ended(child))
        announced = asyncio.ensure_future(_announce(registration, done))
        await asyncio.wait((stopped, ended), return_when=asyncio.FIRST_COMPLETED)
        for task in (stopped, ended, announced):
            task.cancel()
    if child is None:
        return OK
    if child.returncode is None:
        await asyncio.sleep(drain_s)
        # It may have ended by itself meanwhile.
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
    # A command that a signal ended is reported as shells do.
    code = await child.wait()
    return code if code >= 0 else 128 - code


async def _ended(child: asyncio.subprocess.Process) -> bool:
    await child.wait()
    return True


async def _announce(registration: Registration, done: str) -> None:
    await registration.registered()
    click.echo(done)
