"""What the demo tells of its workers: every change once."""

from __future__ import annotations

from silence_gateway.app.demo.watcher import Watcher
from silence_gateway.events import EndpointDown, EndpointUp, Event, StoreFound, StoreLost


def test_an_outage_of_the_store_is_one_loss_and_one_find() -> None:
    told: list[Event] = []
    watcher = Watcher(1, told.append)

    for up, now_s in ((True, 0.0), (False, 1.0), (False, 2.0), (True, 3.5), (True, 4.0)):
        watcher.store_is(up, now_s)

    assert told == [StoreLost(reason="the workers say so"), StoreFound(down_s=2.5)]


def test_an_endpoint_goes_and_comes_back_once() -> None:
    told: list[Event] = []
    watcher = Watcher(1, told.append)

    for state in ("waiting", "ready", "out", "out", "waiting", "ready", "probe"):
        watcher.endpoint_is("cafe", "a:1", state, "refused")

    assert told == [
        EndpointDown(upstream="cafe", endpoint="a:1", reason="refused"),
        EndpointUp(upstream="cafe", endpoint="a:1"),
    ]
