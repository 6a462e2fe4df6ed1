"""The bounds of a server."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from silence_gateway.edge.settings import ServerSettings
from silence_gateway.errors import ConfigError


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = ServerSettings()

    assert (settings.header_timeout_s, settings.body_timeout_s, settings.idle_timeout_s) == (10, 30, 75)
    assert (settings.max_header_bytes, settings.max_body_bytes) == (16_384, 4_194_304)
    assert (settings.max_connections, settings.drain_s) == (0, 30)


@pytest.mark.parametrize("name", [field.name for field in fields(ServerSettings)])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_no_bound_is_below_zero(name: str, value: float) -> None:
    bad: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=f"server.{name} must"):
        ServerSettings(**bad)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        ServerSettings(header_timeout_s=0, max_header_bytes=10, write_low_bytes=70_000)

    assert len(raised.value.problems) == 3
