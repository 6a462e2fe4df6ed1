"""Bounds are checked once, when they are made."""

from __future__ import annotations

import pytest

from silence_gateway.core.h2_flood import ALLOWANCES, Noise
from silence_gateway.edge.http2_settings import Http2Settings
from silence_gateway.errors import ConfigError


def test_the_standard_bounds_are_sound() -> None:
    assert Http2Settings().max_streams == 100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_streams", 0),
        ("max_connections", -1),
        ("max_header_list_bytes", 10),
        ("max_frame_bytes", 1_000),
        ("stream_window_bytes", 1_000),
        ("connection_window_bytes", 2**31),
        ("write_low_bytes", 100_000),
        ("header_timeout_s", 0.0),
        ("stall_timeout_s", float("nan")),
        ("max_age_s", -1.0),
    ],
)
def test_a_bound_that_makes_no_sense_is_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        Http2Settings(**{name: value})  # type: ignore[arg-type]


def test_every_kind_needs_an_allowance() -> None:
    with pytest.raises(ConfigError, match="PINGS"):
        Http2Settings(allowances={kind: each for kind, each in ALLOWANCES.items() if kind is not Noise.PINGS})
