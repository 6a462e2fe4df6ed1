"""
`silence run`: this process serves, or looks after several that do.

With one worker everything is in this process. With more, this process owns the embedded store, the
admin listener and the listening sockets, and its workers (`worker.py`) do the serving.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from silence_gateway.app.build import build
from silence_gateway.app.config.loaded import LoadedConfig
from silence_gateway.app.exit_codes import FAILED, OK
from silence_gateway.app.gateway import Gateway
from silence_gateway.app.listening import close_doors, describe_doors, open_doors, start_admin
from silence_gateway.app.local_admin import local_instance
from silence_gateway.app.loop_lag import LoopLag
from silence_gateway.app.process import (
    LAST_WORDS_S,
    StopSignals,
    first_of,
    log_of,
    run_on_uvloop,
    settle_garbage_collector,
)
from silence_gateway.app.store_place import StorePlace
from silence_gateway.app.worker_pool import serve_with_workers
from silence_gateway.clock import SystemClock
from silence_gateway.events import Noticed, Observer
from silence_gateway.watch.logs import LogWriter


def run(loaded: LoadedConfig, workers: int) -> int:
    """
    Serve until SIGTERM or Ctrl-C; returns the exit code.

    Raises:
        ConfigError: An address cannot be listened on, or a file that the configuration names is no good.
    """
    return run_on_uvloop(serve(loaded, workers))


async def serve(loaded: LoadedConfig, workers: int) -> int:
    """Serve until told to stop; see `run`."""
    clock = SystemClock()
    log, observer = log_of(loaded.config.telemetry, clock)
    stop = StopSignals()
    with stop.installed():
        async with StorePlace(loaded.config, clock, observer) as place:
            if workers > 1:
                if not place.shared:
                    # The check of the file sees neither --workers nor an embedded store that fell back.
                    what = (
                        f"{workers} workers do not share a store: each has sessions of its own, and lets "
                        "through as much as all together may; use embedded:// or a server"
                    )
                    observer(Noticed(what=what, loudness="warning"))
                clean = await serve_with_workers(loaded, workers, place, clock, observer, stop)
            else:
                clean = await serve_alone(loaded, place, clock, observer, log, stop)
    log.flush(LAST_WORDS_S)
    return OK if clean else FAILED


async def serve_alone(
    loaded: LoadedConfig,
    place: StorePlace,
    clock: SystemClock,
    observer: Observer,
    log: LogWriter,
    stop: StopSignals,
    on_ready: Callable[[Gateway], None] = lambda _gateway: None,
) -> bool:
    """Serve in this process until *stop*; returns whether everything finished in time."""
    config = loaded.config
    gateway = build(loaded, place.open(), clock, observer, log)
    lag = LoopLag(clock)
    instance = local_instance(gateway, loaded, log, lag, stop.ask)
    [sockets] = open_doors(config)
    admin = None
    measuring = asyncio.create_task(lag.run())
    try:
        admin = await start_admin(config, instance, clock, observer)
        await gateway.start(sockets)
        observer(
            Noticed(
                what=f"serving on {describe_doors(config)}; admin on {config.admin.listen}; "
                f"store {place.described}"
            )
        )
        settle_garbage_collector()
        on_ready(gateway)
        await stop.asked.wait()
        observer(Noticed(what=f"draining: at most {config.server.drain_s:g} s"))
        cut_off: list[int] = []
        await first_of(_drain(gateway, cut_off), stop.insisted.wait())
        if cut_off != [0]:
            observer(
                Noticed(what=f"connections cut off: {cut_off[0] if cut_off else 'all'}", loudness="warning")
            )
        return True
    finally:
        measuring.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await measuring
        await gateway.stop()
        close_doors([sockets])
        if admin is not None:
            await admin.abort()


async def _drain(gateway: Gateway, cut_off: list[int]) -> None:
    cut_off.append(await gateway.drain())
