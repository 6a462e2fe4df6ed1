"""
Endpoints that register themselves in the store: the service's side and the gateway's.

A registration is a fact on the board, `registry/<name>`, that runs out unless it is renewed. A service
that ends takes its fact away; one that dies is forgotten when its time is over, and its broken connections
have said so long before. While the store is away nobody can renew anything, so nobody is forgotten; and
the last ones are never forgotten, because a registry without anybody is more likely broken than right.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Self

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.core.health import Check, Health, Streak, after_check
from silence_gateway.core.registrations import NAME, RegistrationFact, read_registration, written_registration
from silence_gateway.errors import ConfigError, StoreFault
from silence_gateway.events import Noticed, Observer, nobody
from silence_gateway.stores.contracts import Board, Store
from silence_gateway.stores.open import open_store
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.tls import TlsSettings
from silence_gateway.upstreams.addresses import parse_address
from silence_gateway.upstreams.discovery import Use
from silence_gateway.upstreams.self_check import SelfCheck, self_check
from silence_gateway.upstreams.settings import EndpointSettings

EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, never bound
TTL_S = 15.0
"""How long a service that has died stays registered."""

BEATS = 3
"""Renewals within that time: two may be lost."""

RESEND_S = 1.0
"""Wait before a registration that the store did not take is sent again."""

CALM_S = 20.0
"""The store must have answered this long before silence speaks against a service: `TTL_S` and a bit."""

CHECK_EVERY_S = 5.0
CHECK_PATIENCE_S = 1.0
"""The least time that one check may take; otherwise it is until the next one is due."""

STARTING_S = 1.0
"""Time between checks of a service that has not been well yet: callers wait for it."""

UNHEALTHY_AFTER = 3
HEALTHY_AFTER = 2
"""Checks in a row that take a registered service out and bring it back, as gateways have it."""

TICK_S = 1.0


def room_of(name: str) -> str:
    """Return the room of the board where the endpoints of *name* are."""
    return f"registry/{name}"


class Registration:
    """
    One address, registered for as long as this is open.

        async with Registration("auth", "10.0.0.5:9001", store="valkey://store:6379/0"):
            await server.wait_for_termination()

    It never fails because the store is away: the address is registered as soon as the store answers. With
    *check* it is registered once that has gone well, and not while it has gone wrong several times in a row.

    Attributes:
        unsent: Attempts to register that the store did not take.
        health: What the checks say.

    Raises:
        ConfigError: The address, a number or the store's address makes no sense.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        store: Store | StoreSettings | str,
        fleet: str = "edge",
        weight: int = 1,
        priority: int = 0,
        zone: str = "",
        ttl_s: float = TTL_S,
        check: SelfCheck | str = "none",
        check_every_s: float = CHECK_EVERY_S,
        check_tls: TlsSettings | None = None,
        clock: Clock | None = None,
        observer: Observer = nobody,
    ) -> None:
        """
        Describe the registration; `start` or `async with` makes it.

        Args:
            name: What gateways call the service: `endpoints: {registry: NAME}`.
            address: Where gateways reach it, `host:port`.
            store: The fleet's store, which its owner starts and stops; or the store's address, or its
                settings where it needs TLS files or a password file.
            fleet: The gateways' `name`, when *store* is not a store.
            weight: Its share of the calls, 1 to 100.
            priority: Lower is used first.
            zone: Where it is, as `zone` of gateways says; empty if that does not matter.
            ttl_s: How long it stays registered if this process dies.
            check: How the service is checked: one of `self_check.KINDS`, or what returns what is wrong.
            check_every_s: Time between two checks; three bad ones take it out, two good ones bring it back.
            check_tls: For a service that speaks TLS, when *check* is one of the kinds.
            clock: For waits.
            observer: Told when the store cannot be reached, and when checks change their mind.
        """
        self.unsent = 0
        self._clock: Clock = clock or SystemClock()
        self._observer = observer
        endpoint = EndpointSettings(address=address, weight=weight, priority=priority, zone=zone)
        try:
            fact = RegistrationFact(weight=weight, priority=priority, zone=zone, by=secrets.token_hex(8))
        except ValueError as error:
            raise ConfigError(f"registration of {address}: {error}") from error
        for what, said in (("name", name), ("fleet", fleet)):
            # Under any other, no gateway could be told to look for it.
            if not NAME.fullmatch(said):
                raise ConfigError(
                    f"the {what} of a registration is made of letters, digits, '-', '_' and '.', at most 64, "
                    f"as in the gateways' configuration; got {said[:80]!r}"
                )
        if parse_address(address).host in EVERY_ADDRESS:
            raise ConfigError(
                f"{address} is where a server listens: register an address that gateways can reach"
            )
        if not 1 <= ttl_s <= 3600:
            raise ConfigError(f"ttl_s of a registration must be 1 to 3600, got {ttl_s}")
        self._name = name
        self._address = endpoint.address
        self._value = written_registration(fact)
        self._ttl_s = ttl_s
        self._owned: Store | None = None
        if isinstance(store, str):
            store = StoreSettings(url=store)
        if isinstance(store, StoreSettings):
            settings = replace(store, guest=True)
            if settings.address.scheme != "valkey":
                raise ConfigError("register in a store that the gateways reach, valkey://HOST:PORT")
            store = self._owned = open_store(settings, fleet, clock=self._clock, observer=observer)
        self._board: Board = store.board
        self._copy: Mapping[str, bytes] = {}
        if not 0.1 <= check_every_s <= 3600:
            raise ConfigError(f"check_every_s must be 0.1 to 3600, got {check_every_s}")
        self._check = self_check(check, self._address, tls=check_tls) if isinstance(check, str) else check
        self._check_every_s = check_every_s
        self.health = Health.UNKNOWN if self._check is not None else Health.HEALTHY
        self._turned = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._registered = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to register; returns at once."""
        if self._owned is not None:
            await self._owned.start()
        self._copy = self._board.watch(room_of(self._name), self._heard)
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._renew()))
        if self._check is not None:
            self._tasks.append(loop.create_task(self._keep_checking(self._check)))

    async def registered(self) -> None:
        """Wait until the store has heard of it for the first time."""
        await self._registered.wait()

    async def stop(self) -> None:
        """
        Take the address away, so that gateways send it nothing new; then finish what is being served.

        Cancelling it leaves the registration to run out.
        """
        if self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            self._tasks.clear()
            await self._withdraw()
        if self._owned is not None:
            await self._owned.stop()

    async def _renew(self) -> None:
        failing = False
        while True:
            if self.health is not Health.HEALTHY:
                await self._withdraw()
                await self._wait(None)
                continue
            if self._registered.is_set() and self._is_somebody_elses:
                # Whoever registered it later keeps it. Renewing ours would make it ours to take away.
                await self._wait(self._ttl_s / BEATS)
                continue
            try:
                await self._board.put(room_of(self._name), self._address, self._value, self._ttl_s)
            except StoreFault as error:
                self.unsent += 1
                if not failing:
                    what = f"{self._address} cannot be registered as {self._name!r} now: {error}"
                    self._observer(Noticed(what=what, loudness="warning"))
                failing = True
                await self._wait(RESEND_S)
                continue
            failing = False
            self._registered.set()
            await self._wait(self._ttl_s / BEATS)

    async def _wait(self, seconds: float | None) -> None:
        """Return after *seconds*, or as soon as the checks have changed their mind."""
        timer = None if seconds is None else self._clock.call_later(seconds, self._turned.set)
        try:
            await self._turned.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._turned.clear()

    @property
    def _is_somebody_elses(self) -> bool:
        """Whether the address was registered by another one since."""
        return self._copy.get(self._address, self._value) != self._value

    def _heard(self, address: str, value: bytes | None) -> None:
        if address == self._address and value is None:
            # Whoever took it over has left or died, and we are still here.
            self._turned.set()

    async def _withdraw(self) -> None:
        # Somebody else may have taken over the address meanwhile: that is theirs to take away.
        if self._copy.get(self._address) != self._value:
            return
        try:
            await self._board.remove(room_of(self._name), self._address)
        except StoreFault as error:
            if not self._registered.is_set():
                return  # the store has never heard of it
            self._observer(Noticed(what=f"{self._address} stays registered for {self._ttl_s:g} s: {error}"))

    async def _asked(self, check: SelfCheck) -> str:
        """Return what *check* finds wrong; that it raises, or comes to no end, is wrong too."""

        async def ask() -> str:
            try:
                return await check()
            except Exception as error:  # noqa: BLE001 - it is the service's own code, and this is its answer
                return str(error) or type(error).__name__

        patience_s = max(self._check_every_s, CHECK_PATIENCE_S)
        asking = asyncio.ensure_future(ask())
        timer = self._clock.call_later(patience_s, partial(_give_up, asking))
        try:
            await asyncio.wait([asking])
        finally:
            timer.cancel()
            asking.cancel()
        return f"no answer within {patience_s:g} s" if asking.cancelled() else asking.result()

    async def _keep_checking(self, check: SelfCheck) -> None:
        streak = Streak()
        told = False
        while True:
            wrong = await self._asked(check)
            if wrong and self.health is Health.UNKNOWN:
                # Still starting, most likely: the first good check is enough, however long it takes.
                if not told:
                    self._observer(Noticed(what=f"{self._address} is not well yet: {wrong}"))
                told = True
                await self._clock.sleep(min(self._check_every_s, STARTING_S))
                continue
            outcome = Check.SILENT if wrong else Check.SERVING
            streak = after_check(streak, outcome, UNHEALTHY_AFTER, HEALTHY_AFTER)
            if streak.health is not self.health:
                self.health = streak.health
                self._turned.set()
                well = streak.health is Health.HEALTHY
                what = f"{self._address} is well" if well else f"{self._address} is not well: {wrong}"
                self._observer(Noticed(what=what, loudness="info" if well else "warning"))
            await self._clock.sleep(self._check_every_s)


def _give_up(asking: asyncio.Future[str]) -> None:
    asking.cancel()


class RegistrySource:
    """
    A `discovery.Source`: whoever has registered as *name*.

    Attributes:
        malformed: Registrations that were refused.
    """

    def __init__(self, name: str, board: Board, *, store_is_up: Callable[[], bool], clock: Clock) -> None:
        self.malformed = 0
        self._name = name
        self._board = board
        self._store_is_up = store_is_up
        self._clock = clock
        self._known: dict[str, EndpointSettings] = {}
        self._ended: set[str] = set()
        self._overdue: set[str] = set()
        self._changed = asyncio.Event()

    @property
    def problem(self) -> str:
        """Why it may know too little, or too much; empty if it knows who is there."""
        if not self._store_is_up():
            return f"registry {self._name}: the store does not answer"
        if not self._known:
            return f"registry {self._name}: nobody has registered"
        if len(self._overdue) == len(self._known):
            return f"registry {self._name}: every registration has run out; the last ones are kept"
        return ""

    async def follow(self, use: Use) -> None:
        """Call *use* with who is registered whenever that changes, until cancelled."""
        self._board.watch(room_of(self._name), self._heard, self._ended.add)
        ticking = asyncio.ensure_future(self._tick())
        try:
            if self._store_is_up():
                await self._board.known(room_of(self._name))
            # A store that is away is not waited for: nobody knows for how long.
            self._changed.set()
            while True:
                await self._changed.wait()
                self._changed.clear()
                use(tuple(self._known.values()))
        finally:
            ticking.cancel()

    def hurry(self) -> None:
        """Nothing to hurry: what happens is heard of when it happens."""

    async def _tick(self) -> None:
        calm_s = CALM_S
        while True:
            await self._clock.sleep(TICK_S)
            calm_s = calm_s + TICK_S if self._store_is_up() else 0.0
            if self._overdue and calm_s >= CALM_S and len(self._overdue) < len(self._known):
                for address in self._overdue:
                    del self._known[address]
                self._overdue.clear()
                self._changed.set()

    def _heard(self, address: str, value: bytes | None) -> None:
        ran_out = address in self._ended
        self._ended.discard(address)
        if value is None:
            if ran_out and address in self._known:
                self._overdue.add(address)
                return
            self._overdue.discard(address)
            if self._known.pop(address, None) is not None:
                self._changed.set()
            return
        try:
            fact = read_registration(value)
            endpoint = EndpointSettings(
                address=address, weight=fact.weight, priority=fact.priority, zone=fact.zone
            )
        except (ValueError, ConfigError):
            self.malformed += 1
            return
        self._overdue.discard(address)
        if self._known.get(address) != endpoint:
            self._known[address] = endpoint
            self._changed.set()
