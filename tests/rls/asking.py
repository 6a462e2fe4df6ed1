"""A service with counters of this process, and questions to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from silence_gateway.app.config.rls_files import read_rules
from silence_gateway.core.rls_rules import RuleSet
from silence_gateway.events import Event
from silence_gateway.rls.messages import RateLimitRequest, RateLimitResponse
from silence_gateway.rls.service import RateLimitService
from silence_gateway.rls.settings import RlsSettings
from silence_gateway.stores.window_contract import Tally, WindowCount
from silence_gateway.stores.windows_memory import MemoryCounters
from silence_gateway.testing.clock import FakeClock

HALF_PAST_US = 1_700_000_010_000_000
"""30 seconds into a minute, 46.5 minutes before the next hour."""

Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(coroutine)


def rules_of(text: str) -> RuleSet:
    return read_rules([(Path("rules.yaml"), text.encode())])


class Counters(MemoryCounters):
    """
    Counters that note what they were asked, and say what a test wants.

    Attributes:
        asked: Every call.
        parts: What they say of the instances that share a limit.
        error: Raised after counting, if there is one.
    """

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.asked: list[list[WindowCount]] = []
        self.parts = 1
        self.error: Exception | None = None

    async def add(self, counts: Sequence[WindowCount]) -> Sequence[Tally]:
        self.asked.append(list(counts))
        tallies = self.add_now(counts)
        if self.error is not None:
            raise self.error
        return [tally._replace(parts=self.parts) for tally in tallies]


class Asked:
    """A service, and what goes in and out of it as JSON values."""

    def __init__(self, rules: str, settings: RlsSettings | None = None) -> None:
        self.clock = FakeClock(HALF_PAST_US)
        self.counters = Counters(self.clock)
        self.events: list[Event] = []
        self.service = RateLimitService(
            settings or RlsSettings(), rules_of(rules), self.counters, self.clock, self.events.append
        )

    async def ask(self, question: dict[str, Any]) -> Any:
        message = RateLimitRequest.from_json(json.dumps(question)).to_binary()
        return RateLimitResponse.from_binary(await self.service.should_rate_limit(message))

    def answer(self, *descriptors: str | dict[str, Any], domain: str = "d", **more: Any) -> Any:
        """Ask about *descriptors*, each as `key=value,key=value` or as the JSON of a descriptor."""
        listed = [described(one) if isinstance(one, str) else one for one in descriptors]
        return run(self.ask({"domain": domain, "descriptors": listed, **more}))

    def codes(self, *descriptors: str | dict[str, Any], **more: Any) -> list[str]:
        """Return the overall code, and those of the statuses."""
        answer = self.answer(*descriptors, **more)
        return [code.name for code in (answer.overall_code, *(one.code for one in answer.statuses))]

    def counted(self, name: str) -> dict[str, int]:
        """Return the statistics under *name* that are not 0."""
        return {key: value for key, value in self.service.statistics.rules[name].values().items() if value}


def described(text: str, **more: Any) -> dict[str, Any]:
    """Return the JSON of a descriptor written as `key=value,key=value`."""
    entries = [dict(zip(("key", "value"), part.split("=", 1), strict=False)) for part in text.split(",")]
    return {"entries": entries, **more}
