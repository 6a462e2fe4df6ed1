"""What a person sees of upstreams: a row each, below it why, in 80 columns; and everything about one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.app.admin_client import WrongInput
from silence_gateway.app.upstream_details import one_upstream
from silence_gateway.app.upstream_tables import overview

NOW_US = 1_800_000_000_000_000


def at_us(seconds_ago: float) -> int:
    return NOW_US - round(seconds_ago * 1e6)


def latency(calls: int = 100, p50_s: float = 0.0012, p99_s: float = 0.0098) -> dict[str, Any]:
    return {"calls": calls, "p50_s": p50_s, "p90_s": (p50_s + p99_s) / 2, "p99_s": p99_s}


def recent(calls: int = 600, faults: int = 0) -> dict[str, Any]:
    return {"span_s": 60.0, "calls": calls, "faults": faults, "latency": latency()}


def endpoint(address: str, **more: Any) -> dict[str, Any]:
    return {
        "address": address, "state": "ready", "reason": "", "active": True, "removed": False,
        "link": "connected", "health": "healthy", "breaker": "closed", "hold_reason": "", "hold_until_us": 0,
        "since_us": at_us(180), "begun_us": at_us(180), "calls": 612, "in_flight": 2,
        "codes": {"OK": 600, "NOT_FOUND": 12}, "failures": {"NOT_FOUND": 12}, "latency": latency(),
        "recent": recent(), "bytes_in": 2_000_000, "bytes_out": 3_000, "connects": 3, "connections": 1,
        "streams": 1, "last_error": "", "last_error_code": "", "last_error_us": 0, "last_check": "serving",
        "last_check_us": at_us(2), "last_check_by": "i1", "prober": "i1", "prober_since_us": at_us(7200),
        "breaker_moved_to": {"open": 1}, "weight": 1, "priority": 0, "zone": "", "ejected": False,
        "ejected_until_us": 0, "ejected_because": "", "ejections": 0, "vetoed": False, "states": {"ready": 1},
    } | more  # fmt: skip


def upstream(*endpoints: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": "shop", "instances": ["i1"], "since_us": at_us(7200), "recent": recent(),
        "latency": latency(), "calls_by_code": {"OK": 9, "UNAVAILABLE": 30}, "bytes_in": 5, "bytes_out": 6,
        "shed": {"low": 0}, "concurrency_limit": 0, "panic": False, "endpoints": list(endpoints),
    } | more  # fmt: skip


def test_an_endpoint_is_a_row_and_below_it_is_why() -> None:
    body = [
        upstream(
            endpoint("10.0.0.11:9001"),
            endpoint(
                "10.0.0.12:9001", state="out", since_us=at_us(12), reason="no connection", connections=0
            ),
            endpoint(
                "10.0.0.13:9001", state="out", active=False, reason="draining", in_flight=3,
                drain_reason="new disk",
            ),
            endpoint(
                "10.0.0.14:9001", state="doubtful", ejected=True, reason="ejected: it fails",
                ejected_until_us=at_us(-20), ejected_because="5 failures in a row", recent=recent(1200, 700),
            ),
            endpoint(
                "10.0.0.15:9001", state="out", breaker="held_open", hold_until_us=at_us(-600),
                hold_reason="moving house", reason="circuit breaker held open by an operator",
            ),
            failovers=2,
        )
    ]  # fmt: skip

    assert overview(body, NOW_US).splitlines() == [
        "shop: 1 of 5 ready; 600 calls/min, 0% failed; p50 1.2ms, p99 9.8ms; 2 offered to",
        "    another endpoint",
        "ENDPOINT               STATE      FOR   /MIN  FAILED    NOW    P50    P99  CONNS",
        "10.0.0.11:9001         ready       3m    600      0%      2  1.2ms  9.8ms      1",
        "10.0.0.12:9001         out        12s    600      0%      2  1.2ms  9.8ms      0",
        "  no connection",
        "10.0.0.13:9001         drained     3m    600      0%      3  1.2ms  9.8ms      1",
        "  drained by an operator, 3 in flight: new disk",
        "10.0.0.14:9001         ejected     3m   1200     58%      2  1.2ms  9.8ms      1",
        "  ejected for another 20s: 5 failures in a row",
        "10.0.0.15:9001         held        3m    600      0%      2  1.2ms  9.8ms      1",
        "  circuit breaker held open by an operator for another 10m: moving house",
    ]


@pytest.mark.parametrize(
    ("span_s", "calls", "cell", "words"),
    [
        pytest.param(0.2, 1, "1", "1 call in 1s", id="one-call-at-once"),
        pytest.param(30.0, 50, "50", "50 calls in 30s", id="half-a-minute"),
        pytest.param(60.0, 600, "600", "600 calls/min", id="a-minute"),
        pytest.param(75.0, 750, "600", "600 calls/min", id="a-little-more"),
    ],
)
def test_calls_of_the_first_minute_are_counted_and_not_extrapolated(
    span_s: float, calls: int, cell: str, words: str
) -> None:
    late = recent(calls) | {"span_s": span_s}
    body = upstream(endpoint("a:1", recent=late), recent=late)

    head, _, row = overview([body], NOW_US).splitlines()

    assert head.startswith(f"shop: 1 of 1 ready; {words}, 0% failed;")
    assert row.split()[3] == cell
    assert f"last minute  {words}, 0% failed" in one_upstream(body, NOW_US)


def test_one_that_is_no_endpoint_any_more_was_drained_by_nobody() -> None:
    left = endpoint("a:1", state="out", active=False, removed=True, reason="draining", in_flight=3)

    head, _, row, why, _ = overview([upstream(left, endpoint("b:1"))], NOW_US).splitlines()

    assert row.split()[:2] == ["a:1", "leaving"]
    assert why == "  no endpoint any more, 3 in flight"
    assert head.startswith("shop: 1 of 1 ready; ")


def test_an_error_of_just_now_is_shown_where_calls_still_go() -> None:
    fresh = endpoint("a:1", last_error="RpcError: it broke", last_error_us=at_us(5))
    stale = endpoint("b:1", last_error="RpcError: it broke", last_error_us=at_us(500))

    lines = overview([upstream(fresh, stale)], NOW_US).splitlines()

    assert [line for line in lines if "it broke" in line] == ["  5s ago: RpcError: it broke"]


def test_workers_that_differ_are_named() -> None:
    text = overview([upstream(endpoint("a:1", states={"out": 1, "ready": 3}))], NOW_US)

    assert "workers differ: 1 out, 3 ready" in text


def test_trouble_of_the_whole_upstream_is_in_its_line() -> None:
    breaker = {"breaker": "held_open", "hold_reason": "moving house"}
    shed = {"low": 12_000, "normal": 345, "high": 0}
    body = [upstream(endpoint("a:1"), panic=True, shed=shed, concurrency_limit=12, waiting=7, **breaker)]

    text = " ".join(overview(body, NOW_US).split())

    assert "7 waiting for a place; at most 12 at once; 12.3k shed (12.0k low, 345 normal); circuit" in text
    assert "circuit breaker held open (moving house); PANIC" in text


def test_who_cannot_tell_which_endpoints_there_are_is_heard() -> None:
    problem = "nowhere.invalid:9001 has no addresses"
    empty = upstream(recent=recent(0), latency=latency(0), discovery=[problem])

    assert overview([empty], NOW_US).splitlines()[1:] == [f"  {problem}"]
    kept = upstream(endpoint("10.0.0.11:9001"), discovery=[problem])
    for shown in (overview([kept], NOW_US), one_upstream(kept, NOW_US)):
        assert f"  {problem}; endpoints stay as they are\n" in shown


def test_states_are_painted_and_nothing_moves_for_it() -> None:
    body = [upstream(endpoint("a:1"), endpoint("b:1", state="out"), endpoint("c:1", state="waiting"))]

    painted = overview(body, NOW_US, paint=lambda text, colour: f"<{colour}>{text}</>")

    assert [line[23:].split("  ")[0] for line in painted.splitlines()[2:]] == [
        "<green>ready</>", "<red>out</>", "<yellow>waiting</>",
    ]  # fmt: skip
    for colour in ("<green>", "<red>", "<yellow>", "</>"):
        painted = painted.replace(colour, "")
    assert painted == overview(body, NOW_US)


def test_an_upstream_is_told_in_full() -> None:
    moves = [
        {"at_us": at_us(90), "old": "closed", "new": "open", "by": "i9", "instance": "i1",
         "reason": "opened by another instance"},
        {"at_us": at_us(85), "old": "open", "new": "half_open", "by": "i1", "instance": "i1",
         "reason": "cool-down over"},
    ]  # fmt: skip
    broken = {"last_error": "RpcError: it broke", "last_error_code": "INTERNAL", "last_error_us": at_us(95)}
    body = upstream(
        endpoint("a:1", zone="eu", breaker="half_open", breaker_moves=moves, **broken),
        concurrency_limit=40,
        breaker="closed",
        breaker_moves=[moves[0] | {"new": "held_closed", "by": "i1", "reason": "held closed: a rehearsal"}],
        breaker_moved_to={"open": 2, "held_closed": 1},
        departed=[
            {"address": "z:1", "left_us": at_us(900), "calls": 12_345, "faults": 3, "last_error": "it broke"}
        ],
    )

    assert one_upstream(body, NOW_US).splitlines() == [
        "shop: 1 of 1 ready; 600 calls/min, 0% failed; p50 1.2ms, p99 9.8ms; at most 40",
        "    at once",
        "  since        2h: 30 UNAVAILABLE, 9 OK",
        "  latency      p50 1.2ms, p90 5.5ms, p99 9.8ms",
        "  bytes        5 B in, 6 B out",
        "  left         z:1, 15m ago: 12.3k calls, 3 failed; it broke",
        "  breaker      closed; opened 2 times",
        "               07:58:30Z (90s ago) closed to held closed, by i1 (here): held",
        "               closed: a rehearsal",
        "",
        "a:1  ready for 3m",
        "  calls        600 OK, 12 NOT_FOUND; 2 in flight",
        "  latency      p50 1.2ms, p90 5.5ms, p99 9.8ms",
        "  last minute  600 calls/min, 0% failed, p50 1.2ms, p90 5.5ms, p99 9.8ms",
        "  network      1 connection (3 opened), 1 stream, 1.91 MiB in, 2.93 KiB out",
        "  place        weight 1, priority 0, zone eu",
        "  health       healthy; last check 2s ago by i1 (here): serving",
        "  checked by   i1 (here), since 2h",
        "  ejections    0",
        "  last error   95s ago, INTERNAL, RpcError: it broke",
        "  breaker      half open; opened 1 time",
        "               07:58:35Z (85s ago) open to half open, by i1 (here): cool-down",
        "               over",
        "               07:58:30Z (90s ago) closed to open, by i9: opened by another",
        "               instance",
    ]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("UNAVAILABLE: told to fail", "UNAVAILABLE: told to fail"),
        ("UpstreamBroken: gone", "UNAVAILABLE, UpstreamBroken: gone"),
    ],
)
def test_the_code_of_the_last_error_is_said_once(said: str, shown: str) -> None:
    failed = endpoint("a:1", last_error=said, last_error_code="UNAVAILABLE", last_error_us=at_us(95))

    assert f"  last error   95s ago, {shown}\n" in one_upstream(upstream(failed), NOW_US)


def test_a_move_that_all_workers_made_is_one_line() -> None:
    def move(seconds_ago: float, instance: str, **more: Any) -> dict[str, Any]:
        told = {"at_us": at_us(seconds_ago), "old": "closed", "new": "open", "by": "i9", "instance": instance}
        return told | {"reason": "because"} | more

    moves = [move(50, "i1"), move(10, "i1"), move(9.9, "i2"), move(5, "i2", by="i2")]
    body = upstream(endpoint("a:1", breaker_moves=moves), instances=["i1", "i2"])

    told = [line.strip() for line in one_upstream(body, NOW_US, width=200).splitlines() if "because" in line]

    assert told == [
        "07:59:55Z (5s ago) closed to open at i2, by i2 (here): because",
        "07:59:50Z (9s ago) closed to open, by i9: because",
        "07:59:10Z (50s ago) closed to open at i1, by i9: because",
    ]


def test_one_endpoint_is_told_alone() -> None:
    body = upstream(endpoint("a:1"), endpoint("b:1", prober=""))

    text = one_upstream(body, NOW_US, only="b:1")

    assert text.startswith("b:1  ready for 3m\n")
    assert "checked by   nobody that is known of" in text
    with pytest.raises(WrongInput, match=r"shop has no endpoint c:1; it has a:1, b:1"):
        one_upstream(body, NOW_US, only="c:1")


def test_an_upstream_without_endpoints_tells_no_time_in_which_it_had_no_calls() -> None:
    assert overview([upstream(recent={"span_s": 0.0, "calls": 0})], NOW_US).splitlines()[0] == (
        "shop: 0 of 0 ready"
    )


def test_of_no_calls_in_the_last_minute_no_share_failed() -> None:
    quiet = endpoint("a:1", recent={"span_s": 60.0, "calls": 0, "faults": 0})

    assert "  last minute  0 calls/min\n" in one_upstream(upstream(quiet), NOW_US)


def test_calls_that_found_no_endpoint_stand_beside_the_name() -> None:
    """No row has them, and `0% failed` would be all that is told while every caller gets 503."""
    down = upstream(endpoint("a:1", state="out"), unplaced=380)

    assert "; 380 found no endpoint\n" in overview([down], NOW_US, width=200)


def test_nothing_to_show_is_said() -> None:
    assert overview([], NOW_US) == "(none)"
    assert "no unary calls timed" in one_upstream(upstream(endpoint("a:1", latency={}, codes={})), NOW_US)


addresses = st.from_regex(r"10\.\d{1,3}\.\d{1,3}\.\d{1,3}:\d{1,5}", fullmatch=True)
numbers = st.integers(0, 10**9)


@given(
    addresses,
    st.sampled_from(["ready", "probe", "waiting", "doubtful", "out"]),
    numbers,
    numbers,
    st.floats(0, 3600),
    st.text(max_size=300),
)
def test_everything_fits_into_80_columns(
    address: str, state: str, calls: int, in_flight: int, took_s: float, reason: str
) -> None:
    of_late = {
        "span_s": 60.0, "calls": calls, "faults": calls // 2, "latency": latency(1, took_s, took_s),
    }  # fmt: skip
    body = upstream(
        endpoint(
            address,
            state=state,
            reason=reason,
            in_flight=in_flight,
            recent=of_late,
            since_us=at_us(min(in_flight, 999 * 86_400)),
        )
    )

    for text in (overview([body], NOW_US), one_upstream(body, NOW_US)):
        assert max(map(len, text.split("\n"))) <= 80
        assert all(char.isprintable() for char in text.replace("\n", ""))


plain = st.none() | st.booleans() | st.integers(-5, 10**18) | st.text(max_size=5)
keys = st.sampled_from([*endpoint("a:1"), *upstream(), "breaker_moves", "at_us", "old"])
anything = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4)
)


@given(anything)
def test_any_answer_can_be_shown(body: Any) -> None:
    """The gateway may be older or newer than this program, or be none at all."""
    assert overview(body, NOW_US)
    assert one_upstream(body, NOW_US)
    assert overview([{"endpoints": [body]}], NOW_US)
    assert one_upstream({"endpoints": [body]}, NOW_US)
