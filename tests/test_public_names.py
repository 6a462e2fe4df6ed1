"""The root of the package: what is promised is there, small, and loaded only when used."""

import subprocess
import sys

import pytest

import silence_gateway


def test_every_promised_name_can_be_had() -> None:
    for name in silence_gateway.__all__:
        assert getattr(silence_gateway, name) is not None


def test_the_promise_is_small_and_without_repetition() -> None:
    assert len(silence_gateway.__all__) == len(set(silence_gateway.__all__)) <= 45
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
