"""Errors of upstreams: caught by status, read by people, carried between processes."""

from __future__ import annotations

import copy
import pickle

import pytest

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError

CODES = [code for code in Code if code]


@pytest.mark.parametrize("code", CODES)
def test_every_status_has_a_class_to_catch(code: Code) -> None:
    name = code.name.title().replace("_", "")
    kind = getattr(RpcError, name)

    with pytest.raises(kind) as caught:
        raise RpcError(code, "why")

    assert type(caught.value) is kind
    assert kind.__qualname__ == f"RpcError.{name}"
    assert not isinstance(RpcError(Code.OK + code % 16 + 1), kind)


def test_code_and_details_are_attributes_that_may_be_called() -> None:
    error = RpcError(5, "no such item")

    assert error.code is error.code() is Code.NOT_FOUND
    assert error.details == error.details() == "no such item"
    assert type(error.details()) is str


@pytest.mark.parametrize("number", [0, -1, 17, 99])
def test_a_number_that_no_failed_call_can_have_is_unknown(number: int) -> None:
    assert isinstance(RpcError(number), RpcError.Unknown)


def test_metadata_is_read_as_text_and_bytes() -> None:
    error = RpcError(5, trailing_metadata=[(b"a", b"1"), (b"a", b"2"), (b"b-bin", b"\0")])

    assert error.metadata == (("a", "1"), ("a", "2"), ("b-bin", b"\0"))


def test_the_text_says_what_was_called_and_where() -> None:
    error = RpcError(14, "connection refused")
    assert str(error) == "UNAVAILABLE: connection refused"

    error.method, error.endpoint, error.upstream = "shop.v1.Shop/Get", "10.0.0.3:9000", "shop"
    assert str(error) == (
        "UNAVAILABLE: connection refused (shop.v1.Shop/Get at 10.0.0.3:9000 of upstream 'shop')"
    )
    assert str(RpcError(14)) == "UNAVAILABLE"


def test_copies_and_pickles_are_the_same_error() -> None:
    error = RpcError(5, "gone", trailing_metadata=((b"a", b"1"),), status_details=b"x")
    error.method = "a.B/C"

    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is RpcError.NotFound
        assert str(twin) == str(error)
        assert (twin.metadata, twin.status_details) == (error.metadata, b"x")


class OutOfStock(RpcError):
    """An error that somebody made of ours."""


def test_a_class_made_of_ours_stays_what_it_is() -> None:
    error = OutOfStock(9, "no beans")

    assert type(error) is OutOfStock
    assert type(copy.copy(error)) is OutOfStock
