"""What the demo sums up: an order that went down with a replica is told apart from what should not fail."""

from __future__ import annotations

from silence_gateway.app.demo.report import Report
from silence_gateway.app.demo.trickle import Trickle
from silence_gateway.edge.problems import problem
from silence_gateway.errors import UpstreamUnavailable


def answered(error: UpstreamUnavailable) -> bytes:
    """Return what the gateway answers to a request that ended in *error*."""
    return b"HTTP/1.1 503 Service Unavailable\r\n\r\n" + bytes(problem(error).body)


BROKE = answered(UpstreamUnavailable("the upstream closed the connection", sent=True))
NOBODY = answered(UpstreamUnavailable("no endpoint is ready", sent=False))


def summed_up(*asked: tuple[str, int, bytes]) -> list[str]:
    """Return the lines about requests that ended so."""
    trickle, report = Trickle(1), Report(lambda _text: None)
    for method, status, answer in asked:
        trickle.count(method, status, answer)
    return report.summary(trickle.statuses, trickle.orders_lost, 1.0).splitlines()[4:-1]


def test_an_order_that_a_replica_had_is_lost_and_has_not_failed() -> None:
    lines = summed_up(("POST", 503, BROKE), ("GET", 200, b""))

    assert lines == [
        "  0 failed",
        "  1 order was lost with a killed replica: it may have placed it, so it was not sent again",
    ]


def test_what_may_run_twice_fails_whatever_became_of_its_replica() -> None:
    assert summed_up(("GET", 503, BROKE)) == ["  1 failed"]


def test_an_order_that_never_left_has_failed() -> None:
    assert summed_up(("POST", 503, NOBODY), ("POST", 500, b""), ("POST", 0, b"")) == ["  3 failed"]
