"""
What a question to the rate limit service comes to: which limits it meets, and what to count.

Hot path. Envoy sends the same bytes for the same kind of request, so the plan of a question that has come
twice is remembered by its bytes: finding it takes 0.2 us, making one for two descriptors 11 us, 3 us of them
reading. Plans belong to one set of rules and go with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from silence_gateway.core.rls_judging import MAX_HITS, judge, near_threshold, refunded, share_of
from silence_gateway.core.rls_matching import Entry, counter_key, match, override_statistic
from silence_gateway.core.rls_over_limit import CounterId
from silence_gateway.core.rls_rules import Level, Limit, Rule, RuleSet, Unit
from silence_gateway.core.rls_wire import OK_STATUS, UNLIMITED_STATUS, limit_field
from silence_gateway.core.status import Code
from silence_gateway.errors import BadRequest, RpcError
from silence_gateway.rls.messages import read_request
from silence_gateway.rls.statistics import RuleStatistics
from silence_gateway.stores.window_contract import Tally, WindowCount

MAX_PLANS = 4_096
"""Plans remembered: 2 KB each."""

MAX_SEEN = 16_384
"""Hashes of questions that came once."""

MAX_TERMS = 16_384
MAX_REMEMBERED_BYTES = 512
MAX_DESCRIPTORS = 1_000


class Slot:
    """
    One descriptor of a question.

    Attributes:
        status: Its serialised status, where that does not depend on any count; else empty.
        quota: Whether its limit is a quota.
    """

    __slots__ = ("quota", "status")

    def __init__(self, status: bytes, *, quota: bool = False) -> None:
        self.status = status
        self.quota = quota


class Terms:
    """
    What every question that meets one rule under one name has in common.

    Attributes:
        requests: The limit.
        window_us: Length of its windows.
        ratio: Share of it from which hits are near it.
        near: Count from which they are.
        shadow: Whether it never refuses.
        quota: Whether it is a quota.
        limit_field: The limit, serialised.
        metadata: What callers are told while the limit is not reached.
        statistics: Where hits are counted for people.
    """

    __slots__ = (
        "limit_field",
        "metadata",
        "near",
        "quota",
        "ratio",
        "requests",
        "shadow",
        "statistics",
        "window_us",
    )

    def __init__(
        self, rule: Rule, limit: Limit, statistics: RuleStatistics, *, ratio: float, quota: bool
    ) -> None:
        self.requests = limit.requests
        self.window_us = limit.window_us
        self.ratio = ratio
        self.near = near_threshold(limit.requests, ratio)
        self.shadow = rule.shadow
        self.quota = quota
        self.limit_field = limit_field(limit)
        self.metadata = rule.metadata
        self.statistics = statistics


class CountedSlot(Slot):
    """
    A descriptor that meets a limit.

    Attributes:
        terms: What that limit is.
        count: What the counters are asked.
        hits: How many hits are counted, or given back; 0 or more.
        gives_back: Which of the two.
    """

    __slots__ = ("count", "gives_back", "hits", "terms")

    def __init__(self, terms: Terms, count: WindowCount, hits: int, *, gives_back: bool) -> None:
        self.status = b""
        self.quota = terms.quota
        self.terms = terms
        self.count = count
        self.hits = hits
        self.gives_back = gives_back

    @property
    def counter(self) -> CounterId:
        """Which counter it is about."""
        name, window_us, key, _ = self.count
        return name, window_us, key

    def count_hits(self) -> None:
        """Count for people that it was asked."""
        if self.gives_back:
            self.terms.statistics.total_negative_hits += self.hits
        else:
            self.terms.statistics.total_hits += self.hits

    def judge(self, tally: Tally) -> tuple[bool, int]:
        """Return whether this descriptor is over its limit and what is left, and count that for people."""
        terms = self.terms
        requests, near = terms.requests, terms.near
        if tally.parts > 1:
            requests = share_of(requests, tally.parts)
            near = near_threshold(requests, terms.ratio)
        if self.gives_back:
            return False, refunded(requests, tally.after)
        over, remaining, over_hits, near_hits = judge(requests, near, tally.after, self.hits)
        statistics = terms.statistics
        statistics.near_limit += near_hits
        if not over:
            statistics.within_limit += self.hits
            return False, remaining
        statistics.over_limit += over_hits
        if terms.shadow:
            statistics.shadow_mode += over_hits
        return not terms.shadow, remaining

    def judge_remembered(self) -> tuple[bool, int]:
        """Do what `judge` does, of a counter that is remembered as over its limit."""
        statistics = self.terms.statistics
        statistics.over_limit += self.hits
        statistics.over_limit_with_local_cache += self.hits
        if self.terms.shadow:
            statistics.shadow_mode += self.hits
        return not self.terms.shadow, 0


class Plan:
    """
    A question, understood.

    Attributes:
        slots: Its descriptors, in order.
        counted: Those of them that meet a limit.
        counts: What the counters are asked about those.
        unknown_domain: The domain, if there are no rules for it; else empty.
        question: The RateLimitRequest, where answers tell what was asked; else None.
    """

    __slots__ = ("counted", "counts", "gives_back", "question", "slots", "unknown_domain")

    def __init__(self, slots: Sequence[Slot], unknown_domain: str = "", question: Any = None) -> None:
        self.slots = slots
        self.counted: list[CountedSlot] = []
        self.counts: list[WindowCount] = []
        self.gives_back = False
        for slot in slots:
            if isinstance(slot, CountedSlot):
                self.counted.append(slot)
                self.counts.append(slot.count)
                if slot.gives_back:
                    self.gives_back = True
        self.unknown_domain = unknown_domain
        self.question = question


class Planner:
    """
    Makes plans by one set of rules.

    Args:
        rules: The rules.
        statistics: Returns where hits under a name are counted.
        ratio: Share of a limit from which hits are near it.
        all_quota: Whether every limit is a quota.
        negative_hits: Whether hits may be given back.
        keep_questions: Whether plans keep their question.
    """

    def __init__(
        self,
        rules: RuleSet,
        statistics: Callable[[str], RuleStatistics],
        *,
        ratio: float,
        all_quota: bool = False,
        negative_hits: bool = False,
        keep_questions: bool = False,
    ) -> None:
        self.rules = rules
        self.statistics = statistics
        self.ratio = ratio
        self.all_quota = all_quota
        self.negative_hits = negative_hits
        self.keep_questions = keep_questions
        self.plans: dict[bytes, Plan] = {}
        self.seen: set[int] = set()
        self.terms: dict[tuple[int, str], Terms] = {}

    def plan(self, message: bytes) -> Plan:
        """
        Return the plan for a serialised RateLimitRequest.

        Raises:
            BadRequest: The question cannot be understood.
            RpcError: UNIMPLEMENTED: it gives hits back, and that is off.
        """
        plan = self.plans.get(message)
        if plan is None:
            plan = self.make(read_request(message))
            # Only what comes a second time: where each question is another one, keeping plans costs more
            # than making them.
            mark = hash(message)
            if mark not in self.seen:
                if len(self.seen) >= MAX_SEEN:
                    self.seen.clear()
                self.seen.add(mark)
            elif len(message) <= MAX_REMEMBERED_BYTES:
                if len(self.plans) >= MAX_PLANS:
                    self.plans.clear()
                self.plans[message] = plan
        return plan

    def make(self, question: Any) -> Plan:
        """Do the work of `plan`."""
        domain: str = question.domain
        if not domain:
            raise BadRequest("the domain is empty")
        descriptors = question.descriptors
        if not 0 < len(descriptors) <= MAX_DESCRIPTORS:
            raise BadRequest(f"there must be 1 to {MAX_DESCRIPTORS} descriptors, not {len(descriptors)}")
        if not self.negative_hits:
            for descriptor in descriptors:
                if descriptor.is_negative_hits:
                    raise RpcError(Code.UNIMPLEMENTED, "giving hits back is off: set rls.negative_hits")
        kept = question if self.keep_questions else None
        level = self.rules.domains.get(domain)
        if level is None:
            return Plan([Slot(OK_STATUS, quota=self.all_quota)] * len(descriptors), domain, kept)
        hits: int = question.hits_addend or 1
        slots: list[Slot] = []
        rules: list[Rule | None] = []
        replaced: tuple[str, ...] = ()
        for descriptor in descriptors:
            slot, rule = self.slot(domain, level, descriptor, hits)
            slots.append(slot)
            rules.append(rule)
            if rule is not None and rule.replaces:
                replaced += rule.replaces
        if replaced:
            for index, rule in enumerate(rules):
                if rule is not None and rule.limit is not None and rule.limit.name in replaced:
                    slots[index] = Slot(OK_STATUS, quota=self.all_quota)
        return Plan(slots, "", kept)

    def slot(self, domain: str, level: Level, descriptor: Any, hits: int) -> tuple[Slot, Rule | None]:
        """Return what one descriptor comes to, and the rule that it meets."""
        entries: tuple[Entry, ...] = tuple([(entry.key, entry.value) for entry in descriptor.entries])
        override = descriptor.limit
        counted: Sequence[Entry]
        if override is None:
            found = match(domain, level, entries)
            if found is None:
                return Slot(OK_STATUS, quota=self.all_quota), None
            rule, statistic, counted = found
        else:
            rule, statistic, counted = override_rule(override), override_statistic(domain, entries), entries
        limit = rule.limit
        if limit is None:
            return Slot(UNLIMITED_STATUS), rule
        if override is None:
            # The rules live as long as this planner, so the id of one is never that of another.
            name = (id(rule), statistic)
            terms = self.terms.get(name)
            if terms is None:
                if len(self.terms) >= MAX_TERMS:
                    self.terms.clear()
                terms = self.terms[name] = self.terms_of(rule, limit, statistic)
        else:
            terms = self.terms_of(rule, limit, statistic)
        own = descriptor.hits_addend
        hits = hits if own is None else min(MAX_HITS, own.value)
        gives_back: bool = descriptor.is_negative_hits
        count = WindowCount(domain, terms.window_us, counter_key(counted), -hits if gives_back else hits)
        return CountedSlot(terms, count, hits, gives_back=gives_back), rule

    def terms_of(self, rule: Rule, limit: Limit, statistic: str) -> Terms:
        """Return the terms of a rule."""
        quota = rule.quota or self.all_quota
        return Terms(rule, limit, self.statistics(statistic), ratio=self.ratio, quota=quota)


UNITS: Mapping[int, Unit] = {unit.value: unit for unit in Unit}


def override_rule(override: Any) -> Rule:
    """
    Return the rule that a caller brings.

    Raises:
        BadRequest: It is not a limit.
    """
    unit = UNITS.get(int(override.unit))
    if unit is None:
        raise BadRequest("a limit in the request has no unit that there is")
    multiplier = override.unit_multiplier
    try:
        return Rule(
            limit=Limit(override.requests_per_unit, unit, 1 if multiplier is None else multiplier.value)
        )
    except ValueError as exc:
        raise BadRequest(f"a limit in the request cannot be used: {exc}") from exc
