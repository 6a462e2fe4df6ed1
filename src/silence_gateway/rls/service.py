"""
The rate limit service: a serialised RateLimitRequest in, a serialised RateLimitResponse out.

Hot path. A decision about two descriptors takes 5 us without the counters where the question has come before,
and 17 us where it has not. The doors are thin: gRPC calls `should_rate_limit`, and `json_door.py` turns JSON
into the same bytes and back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from silence_gateway.clock import Clock
from silence_gateway.core.rls_judging import Standing, crosses_back
from silence_gateway.core.rls_over_limit import CounterId, OverLimitCache
from silence_gateway.core.rls_rules import RuleSet
from silence_gateway.core.rls_wire import (
    OK,
    OVER_LIMIT,
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    headers_field,
    metadata_field,
    response,
    status,
)
from silence_gateway.errors import BadRequest, RpcError, StoreUnavailable
from silence_gateway.events import Observer, nobody
from silence_gateway.rls.messages import Struct
from silence_gateway.rls.metadata import metadata_of
from silence_gateway.rls.plans import CountedSlot, Plan, Planner, Terms
from silence_gateway.rls.settings import RlsSettings
from silence_gateway.rls.statistics import RlsStatistics
from silence_gateway.stores.window_contract import Tally, WindowCounters

REMEMBERED = -1
"""Stands for the count of a counter that was not asked, because it is remembered as over its limit."""


def ignore(_counter: CounterId) -> None:
    """Tell nobody: there is one instance, or no cache."""


class RateLimitService:
    """
    Decides about questions by one set of rules, which can be replaced while it runs.

    Attributes:
        rules: The rules in force.
        statistics: What it has counted.
        tell_refund: Called with a counter that may be under its limit again, because hits were given back.
            Other instances that remember it as over have to be told to `forget` it.
    """

    def __init__(
        self,
        settings: RlsSettings,
        rules: RuleSet,
        counters: WindowCounters,
        clock: Clock,
        observer: Observer = nobody,
    ) -> None:
        self.settings = settings
        self.counters = counters
        self.clock = clock
        self.observer = observer
        self.statistics = RlsStatistics()
        self.remembered = OverLimitCache(settings.local_cache)
        self.tell_refund: Callable[[CounterId], None] = ignore
        self.header_lines = [
            (tag, [name.encode() for name in (names.limit, names.remaining, names.reset)])
            for tag, names in (
                (RESPONSE_HEADERS, settings.headers),
                (REQUEST_HEADERS, settings.request_headers),
            )
            if names is not None
        ]
        self.use(rules)

    def use(self, rules: RuleSet) -> None:
        """Decide by *rules* from now on; counters and statistics stay."""
        for name, _ in rules.rules():
            self.statistics.of(name, configured=True)
        self.rules = rules
        self.planner = Planner(
            rules,
            self.statistics.of,
            ratio=self.settings.near_limit_ratio,
            all_quota=self.settings.quota_mode,
            negative_hits=self.settings.negative_hits,
            keep_questions=self.settings.dynamic_metadata,
        )
        self.statistics.config_load_success += 1

    def forget(self, counter: CounterId) -> None:
        """Ask the store about *counter* again: another instance has given hits back to it."""
        self.remembered.forget(counter)

    async def should_rate_limit(self, message: bytes) -> bytes:
        """
        Return the serialised answer to a serialised RateLimitRequest.

        Cancelling it may leave the hits counted.

        Raises:
            BadRequest: The question cannot be understood.
            RpcError: UNIMPLEMENTED: it gives hits back, and that is off.
            StoreUnavailable: The counters did not answer, and are none that fall back.
        """
        plan = self.understand(message)
        if not plan.counts:
            return self.answer(plan, ())
        try:
            if self.settings.local_cache:
                return self.answer(plan, await self.ask_unless_remembered(plan))
            return self.answer(plan, await self.counters.add(plan.counts))
        except StoreUnavailable:
            self.statistics.store_errors += 1
            raise

    def understand(self, message: bytes) -> Plan:
        """
        Return the plan for a question, and count that it came.

        Raises:
            BadRequest: The question cannot be understood.
            RpcError: UNIMPLEMENTED: it gives hits back, and that is off.
        """
        statistics = self.statistics
        statistics.requests += 1
        try:
            plan = self.planner.plan(message)
        except BadRequest:
            statistics.service_errors += 1
            raise
        except RpcError:
            statistics.negative_hits_rejected += 1
            raise
        if plan.unknown_domain:
            statistics.domain_not_found(plan.unknown_domain, len(plan.slots))
        for slot in plan.counted:
            slot.count_hits()
        return plan

    async def ask_unless_remembered(self, plan: Plan) -> list[Tally]:
        """Ask the counters that are not remembered as over their limit, and remember those that are now."""
        remembered = self.remembered
        now_us = int(self.clock.monotonic_s() * 1_000_000)
        known = [
            0 if slot.gives_back else remembered.find(slot.counter, slot.terms.requests, now_us)
            for slot in plan.counted
        ]
        asked = [count for count, reset_us in zip(plan.counts, known, strict=True) if not reset_us]
        generation = remembered.generation
        try:
            fresh = iter(await self.counters.add(asked) if asked else ())
        finally:
            # Also when there was no answer: the hits may have been given back.
            for slot in plan.counted if plan.gives_back else ():
                if slot.gives_back:
                    remembered.forget(slot.counter)
        tallies = [Tally(REMEMBERED, reset_us) if reset_us else next(fresh) for reset_us in known]
        for slot, tally in zip(plan.counted, tallies, strict=True):
            # What one instance has counted by itself says nothing once the store is back.
            if tally.parts != 1:
                continue
            if slot.gives_back:
                if crosses_back(slot.terms.requests, tally.after, slot.hits):
                    self.tell_refund(slot.counter)
            elif tally.after > slot.terms.requests:
                # Since before the question: never longer than the store would say.
                remembered.remember(slot.counter, tally.after, now_us + tally.reset_us, generation)
        return tallies

    def answer(self, plan: Plan, tallies: Sequence[Tally]) -> bytes:
        """Return the serialised answer to a question; *tallies* are those of its counted slots."""
        standing = Standing()
        statuses: list[bytes] = []
        resets_s: list[int] = []
        passed: list[Terms] = []
        told = iter(tallies)
        for slot in plan.slots:
            if not isinstance(slot, CountedSlot):
                statuses.append(slot.status)
                standing.quotas += slot.quota
                continue
            tally = next(told)
            over, left = slot.judge_remembered() if tally.after == REMEMBERED else slot.judge(tally)
            reset_s = -(-tally.reset_us // 1_000_000)
            standing.count(len(resets_s), over=over, quota=slot.quota, remaining=left)
            statuses.append(status(OVER_LIMIT if over else OK, slot.terms.limit_field, left, reset_s))
            resets_s.append(reset_s)
            if not over:
                passed.append(slot.terms)
        more = b""
        if self.header_lines and standing.least is not None:
            about = plan.counted[standing.least].terms
            more = self.headers(about.requests, standing.least_remaining, resets_s[standing.least])
        code = OK
        if standing.over:
            if self.settings.shadow_mode:
                self.statistics.global_shadow_mode += 1
            else:
                code = OVER_LIMIT
        if plan.question is not None:
            said = metadata_of(plan.question, [terms.metadata for terms in passed if terms.metadata])
            more += metadata_field(Struct.from_json(json.dumps(said)).to_binary())
        return response(code, statuses, more)

    def headers(self, requests: int, remaining: int, reset_s: int) -> bytes:
        """Return the header lines about one limit, serialised."""
        values = (b"%d" % requests, b"%d" % remaining, b"%d" % reset_s)
        return b"".join(
            headers_field(tag, list(zip(names, values, strict=True))) for tag, names in self.header_lines
        )
