"""
Rules anew while the service runs: a set that cannot be used changes nothing, and is counted and told.

Files are looked at now and then and not watched by the kernel: configuration that is mounted into a
container is often exchanged by moving a link, which no watch on a file sees.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self, TypeAlias

from silence_gateway.clock import Clock
from silence_gateway.core.rls_rules import RuleSet
from silence_gateway.errors import ConfigError
from silence_gateway.events import RulesLoaded, RulesRefused
from silence_gateway.rls.service import RateLimitService

Load: TypeAlias = Callable[[], RuleSet]
"""Reads and checks all files; raises ConfigError with every problem there is."""

Fingerprint: TypeAlias = Callable[[], object]
"""Returns something that differs when a file may have changed; cheap, and raises nothing."""

Elsewhere: TypeAlias = Callable[[Load], Awaitable[RuleSet]]
"""Runs a function where it does not hold up the event loop."""

LOOK_EVERY_S = 1.0


def try_replace(service: RateLimitService, load: Load) -> bool:
    """Put the rules that *load* returns in force, or keep the old ones; returns which of the two."""
    try:
        rules = load()
    except ConfigError as exc:
        refuse(service, exc)
        return False
    accept(service, rules)
    return True


def accept(service: RateLimitService, rules: RuleSet) -> None:
    """Put *rules* in force, and tell."""
    service.use(rules)
    tell_rules(service)


def tell_rules(service: RateLimitService) -> None:
    """Tell which rules are in force."""
    rules = service.rules
    service.observer(
        RulesLoaded(domains=len(rules.domains), rules=sum(1 for _ in rules.rules()), warnings=rules.warnings)
    )


def refuse(service: RateLimitService, error: ConfigError) -> None:
    """Keep the old rules, and tell why."""
    service.statistics.config_load_error += 1
    service.observer(RulesRefused(problems=error.problems))


class RuleWatcher:
    """
    Replaces the rules of a service when their files change; an async context manager.

    Args:
        service: The service.
        load: Reads the files.
        fingerprint: Looks whether they may have changed.
        seen: What *fingerprint* returned before the rules in force were read.
        clock: The only clock.
        elsewhere: Where *load* runs; by default a thread.
    """

    def __init__(
        self,
        service: RateLimitService,
        load: Load,
        fingerprint: Fingerprint,
        seen: object,
        clock: Clock,
        elsewhere: Elsewhere = asyncio.to_thread,
    ) -> None:
        self.service = service
        self.load = load
        self.fingerprint = fingerprint
        self.seen = seen
        self.clock = clock
        self.elsewhere = elsewhere
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin to look."""
        self.tasks.append(asyncio.get_running_loop().create_task(self.run()))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop looking."""
        for task in self.tasks:
            task.cancel()
        # What ended a task by itself is a mistake in this program, and raised here.
        for ended in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def run(self) -> None:
        """Look once a second, for ever."""
        while True:
            await self.clock.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Read the files again if they may have changed."""
        # Taken before reading: a change while we read is seen the next time.
        found = self.fingerprint()
        if found == self.seen:
            return
        self.seen = found
        try:
            rules = await self.elsewhere(self.load)
        except ConfigError as exc:
            refuse(self.service, exc)
        else:
            accept(self.service, rules)
