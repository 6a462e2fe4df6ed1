"""Settings are checked once, and say everything that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from silence_gateway.errors import ConfigError
from silence_gateway.realtime.settings import NamespaceSettings, RealtimeSettings


def test_defaults_are_those_of_the_documentation() -> None:
    settings = RealtimeSettings()

    assert settings.path == "/connection/websocket"
    assert settings.namespaces == {"": NamespaceSettings()}
    assert settings.session_rules().ping_us == 25_000_000
    assert settings.refresh_s == 24


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"ping_s": -1}, "ping must not be negative"),
        ({"ping_s": 5, "pong_timeout_s": 5}, "shorter than ping"),
        ({"stale_s": 0}, "stale_s must be above zero"),
        ({"instance_ttl_s": 0}, "instance_ttl_s must be above zero"),
        ({"linger_s": -1}, "must not be negative"),
        ({"queue_bytes": 10}, "at least 1KiB"),
        ({"path": "ws"}, "must start with /"),
        ({"server_version": ""}, "must not be empty"),
        ({"namespaces": {"a": NamespaceSettings()}}, "two or more letters"),
        ({"namespaces": {"a b": NamespaceSettings()}}, "two or more letters"),
        ({"namespaces": {"": NamespaceSettings(max_subscriptions=0)}}, "max_subscriptions"),
        ({"origins": ("app.example.com",)}, "https://app.example.com"),
    ],
)
def test_what_cannot_work_is_refused_in_words(bad: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RealtimeSettings(**bad)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        RealtimeSettings(path="x", queue_bytes=1)

    assert len(caught.value.problems) == 2


def test_no_pings_need_no_pong_timeout() -> None:
    assert RealtimeSettings(ping_s=0).session_rules().ping_us == 0
