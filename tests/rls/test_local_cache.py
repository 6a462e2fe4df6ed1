"""Counters known to be over their limit are not asked again, unless hits are given back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.rls.asking import Asked, described, rules_of, run

from silence_gateway.core.rls_over_limit import CounterId
from silence_gateway.errors import StoreUnavailable
from silence_gateway.rls.settings import RlsSettings
from silence_gateway.stores.window_contract import Tally, WindowCount

RULES = """
domain: d
descriptors:
  - key: addr
    rate_limit: {unit: minute, requests_per_unit: 2}
  - key: tenant
    rate_limit: {unit: minute, requests_per_unit: 10}
  - key: watched
    shadow_mode: true
    rate_limit: {unit: minute, requests_per_unit: 1}
"""
CACHED = RlsSettings(local_cache=100, negative_hits=True)


def over() -> Asked:
    """Return a service that has just seen addr=1 go over its limit."""
    asked = Asked(RULES, CACHED)
    for _ in range(3):
        asked.answer("addr=1")
    asked.counters.asked.clear()
    return asked


def refund(hits: int, text: str = "addr=1") -> dict[str, object]:
    return described(text, hitsAddend=hits, isNegativeHits=True)


def test_what_is_over_its_limit_is_answered_without_the_store() -> None:
    asked = over()

    [status] = asked.answer("addr=1", hitsAddend=5).statuses
    assert (status.code.name, status.limit_remaining) == ("OVER_LIMIT", 0)
    assert status.current_limit.requests_per_unit == 2
    assert status.duration_until_reset.seconds == 30
    assert asked.counters.asked == []
    assert asked.counted("d.addr") == {
        "total_hits": 8,
        "within_limit": 2,
        "near_limit": 1,
        "over_limit": 6,
        "over_limit_with_local_cache": 5,
    }


def test_other_descriptors_of_the_request_are_counted() -> None:
    asked = over()

    assert asked.codes("tenant=a", "addr=1", "tenant=b") == ["OVER_LIMIT", "OK", "OVER_LIMIT", "OK"]
    assert [count.key for [*counts] in asked.counters.asked for count in counts] == ["tenant=a", "tenant=b"]


def test_a_rule_that_only_watches_is_remembered_too() -> None:
    asked = Asked(RULES, CACHED)
    for _ in range(4):
        assert asked.codes("watched=1") == ["OK", "OK"]

    assert len(asked.counters.asked) == 2
    assert asked.counted("d.watched")["shadow_mode"] == 3
    assert asked.counted("d.watched")["over_limit_with_local_cache"] == 2


def test_the_next_window_is_asked_again() -> None:
    asked = over()
    run(asked.clock.advance(30))

    assert asked.codes("addr=1") == ["OK", "OK"]


def test_asking_is_answered_from_memory_too() -> None:
    asked = over()

    assert asked.codes(described("addr=1", hitsAddend=0)) == ["OVER_LIMIT", "OVER_LIMIT"]
    assert asked.counters.asked == []


def test_a_higher_limit_is_asked_about() -> None:
    asked = over()
    higher = described("addr=1", limit={"requestsPerUnit": 9, "unit": "MINUTE"})

    assert asked.codes(higher) == ["OK", "OK"]
    asked.service.use(rules_of(RULES.replace("requests_per_unit: 2}", "requests_per_unit: 5}")))
    assert asked.codes("addr=1") == ["OK", "OK"]


def test_hits_given_back_are_seen_at_once() -> None:
    asked = over()

    assert asked.codes(refund(2)) == ["OK", "OK"]
    assert asked.codes("addr=1") == ["OK", "OK"]


def test_other_instances_are_told_only_when_a_count_comes_under_its_limit() -> None:
    asked = over()
    told: list[CounterId] = []
    asked.service.tell_refund = told.append
    asked.answer("addr=1", hitsAddend=2)
    assert asked.counters.asked == []

    asked.answer(refund(1, "addr=2"))
    assert told == []
    asked.answer(refund(1))
    assert told == [("d", 60_000_000, "addr=1")]
    asked.answer(refund(1))
    assert len(told) == 1


def test_an_instance_that_is_told_asks_again() -> None:
    asked = over()
    asked.service.forget(("d", 60_000_000, "addr=1"))

    assert asked.codes("addr=1") == ["OVER_LIMIT", "OVER_LIMIT"]
    assert len(asked.counters.asked) == 1


def test_hits_for_others_are_counted_beside_those_given_back() -> None:
    asked = over()

    assert asked.codes("tenant=a", refund(2)) == ["OK", "OK", "OK"]
    assert asked.codes("addr=1") == ["OK", "OK"]


def test_no_answer_to_a_refund_is_taken_for_one() -> None:
    asked = over()
    asked.counters.error = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable):
        asked.answer(refund(2))
    asked.counters.error = None

    assert asked.codes("addr=1") == ["OK", "OK"]


@pytest.mark.parametrize("parts", [0, 3])
def test_what_one_instance_has_counted_by_itself_is_not_remembered(parts: int) -> None:
    asked = Asked(RULES, CACHED)
    asked.counters.parts = parts
    for _ in range(4):
        asked.answer("addr=1")
    assert asked.codes("addr=1")[0] == "OVER_LIMIT"

    assert len(asked.counters.asked) == 5


def test_an_answer_that_was_on_its_way_while_hits_were_given_back_is_not_remembered() -> None:
    async def scenario() -> None:
        asked = Asked(RULES, CACHED)
        held = asyncio.Event()
        add = asked.counters.add

        async def slow(counts: Sequence[WindowCount]) -> Sequence[Tally]:
            tallies = await add(counts)
            if counts[0].hits > 0:
                await held.wait()
            return tallies

        asked.counters.add = slow  # type: ignore[method-assign]
        question = {"domain": "d", "descriptors": [described("addr=1")], "hitsAddend": 3}
        late = asyncio.ensure_future(asked.ask(question))
        await asyncio.sleep(0)
        await asked.ask({"domain": "d", "descriptors": [refund(3)]})
        held.set()
        assert (await late).overall_code.name == "OVER_LIMIT"

        assert (
            await asked.ask({"domain": "d", "descriptors": [described("addr=1")]})
        ).overall_code.name == "OK"

    run(scenario())


def test_without_room_nothing_is_remembered() -> None:
    asked = Asked(RULES)
    for _ in range(5):
        asked.answer("addr=1")

    assert len(asked.counters.asked) == 5
