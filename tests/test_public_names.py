"""The root of the package: what is promised is there, small, and loaded only when used."""

import subprocess
import sys
import typing

import pytest

import silence_gateway


def test_every_promised_name_can_be_had() -> None:
    for name in silence_gateway.__all__:
        assert getattr(silence_gateway, name) is not None


def test_what_an_upstream_may_be_told_can_be_said_in_promised_names() -> None:
    """Or its settings could not be written without a module that may change."""
    kinds = typing.get_type_hints(silence_gateway.UpstreamSettings)
    parts = {part for kind in kinds.values() for part in (kind, *typing.get_args(kind))}
    ours = {part.__name__ for part in parts if getattr(part, "__module__", "").startswith("silence_gateway")}

    settings = {name for name in ours if name.endswith("Settings")}
    assert {"OutlierSettings", "BalancingSettings"} < settings <= set(silence_gateway.__all__)


def test_the_promise_is_small_and_without_repetition() -> None:
    assert len(silence_gateway.__all__) == len(set(silence_gateway.__all__)) <= 48
    assert dir(silence_gateway) == sorted(silence_gateway.__all__)


def test_an_unknown_name_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        silence_gateway.nothing  # noqa: B018


def test_a_program_pays_only_for_the_engine_it_takes() -> None:
    program = (
        "import sys, silence_gateway\n"
        "assert 'silence_gateway.stores' not in sys.modules\n"
        "silence_gateway.RateLimiter\n"
        "assert 'silence_gateway.realtime' not in sys.modules\n"
        "assert 'silence_gateway.transcoding' not in sys.modules\n"
        "assert 'protobuf' not in sys.modules and 'pydantic' not in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True)
