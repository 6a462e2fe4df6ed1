"""A page in a real browser, with the stock JavaScript client, in front of two gateways on one Valkey."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from tests.browser.chromium import BUNDLE, PageServer, browser_at, find_chromium, page_server
from tests.system.yard import Gateway, Yard, until

from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.valkey]

SECRET = "a secret of at least thirty-two bytes"
CONFIG = """
name: %s
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "%s", deadline: 200ms}
realtime:
  origins: ["%s"]
  tokens: {hmac_secret: "%s"}
  api_key: key
  namespaces: {chat: {publish: true}}
telemetry: {access_log: none}
"""


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    """Skip, and say why, where there is no browser or no client for it."""
    if find_chromium() is None:
        pytest.skip("NO BROWSER TESTED: chromium is not installed (Debian: chromium)")
    if not BUNDLE.exists():
        pytest.skip("NO BROWSER TESTED: the stock client is not installed (npm ci in tests/node)")


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """Yield a starter of processes; everything it started is gone afterwards."""
    made = Yard(tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def pages() -> Iterator[PageServer]:
    """Yield the server of the pages that may connect."""
    with page_server() as server:
        yield server


@pytest.fixture
def gateways(yard: Yard, pages: PageServer) -> Iterator[tuple[Gateway, Gateway]]:
    """Yield two gateways that let the pages of `pages` in."""
    with ValkeyServer() as valkey:
        config = CONFIG % (fresh_fleet(), valkey.url, pages.origin, SECRET)
        yield yard.gateway(config), yard.gateway(config)


def address(gateway: Gateway) -> str:
    return f"ws://127.0.0.1:{gateway.port}/connection/websocket"


def token(user: str) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + 600}, SECRET, algorithm="HS256")


def publish(gateway: Gateway, data: object) -> None:
    answer = gateway.ask("POST", "/api/publish", {"channel": "chat:room", "data": data}, {"X-API-Key": "key"})
    assert answer.json() == {"result": {}}


def test_a_page_hears_the_other_instance_and_is_heard_there(
    gateways: tuple[Gateway, Gateway], pages: PageServer, tmp_path: Path
) -> None:
    near, far = gateways
    page = pages.page(url=address(near), token=token("ann"), channel="chat:room")
    with browser_at(page, tmp_path):
        client = pages.until("connected")["client"]
        pages.until("subscribed")
        sessions = far.admin("GET", "/api/v1/sessions?channel=chat:room").json()["sessions"]
        assert [(each["id"], each["user"]) for each in sessions] == [(client, "ann")]

        publish(far, {"question": "grüß dich"})

        asked = pages.until("publication")
        assert asked["data"] == {"question": "grüß dich"}
        assert "user" not in asked  # it came from a service, not from a client
        answered = pages.until("publication")
        assert answered["data"] == {"answer": "grüß dich", "present": ["ann"]}
        assert answered["user"] == "ann"


def test_a_page_finds_back_to_a_gateway_that_was_restarted(
    gateways: tuple[Gateway, Gateway], pages: PageServer, yard: Yard, tmp_path: Path
) -> None:
    near, far = gateways
    with browser_at(pages.page(url=address(near), token=token("ann"), channel="chat:room"), tmp_path):
        pages.until("subscribed")

        near.signal(signal.SIGTERM)

        # 3001: this one is going away, another one may be reached.
        assert pages.until("connecting")["code"] == 3001
        assert near.wait() == 0
        yard.gateway(near.log.with_suffix(".yaml").read_text(), port=near.port, wait=False)
        pages.until("subscribed")
        publish(far, {"again": True})
        assert pages.until("publication")["data"] == {"again": True}


def test_a_foreign_page_is_refused(
    gateways: tuple[Gateway, Gateway], pages: PageServer, tmp_path: Path
) -> None:
    near, _ = gateways
    with page_server() as foreign:
        assert foreign.origin != pages.origin
        page = foreign.page(url=address(near), token=token("ann"), channel="chat:room")
        with browser_at(page, tmp_path):
            foreign.until("error")
            until(lambda: near.metric("silence_session_refused_origins_total") > 0, "the refusal is counted")
            assert near.admin("GET", "/api/v1/sessions").json()["sessions"] == []
