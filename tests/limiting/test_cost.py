"""What a request costs, whoever tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.http import HeaderList, Request
from silence_gateway.errors import BadRequest
from silence_gateway.limiting.cost import MAX_COST, ONE, Cost

ASKED = Cost(amount=2, header=b"x-cost")
TOLD = Cost(amount=5, answer_header=b"x-tokens")


def asking(value: bytes | None) -> Request:
    return Request("GET", "/", {} if value is None else {b"x-cost": value})


@pytest.mark.parametrize(
    ("value", "cost"),
    [
        pytest.param(None, 2, id="absent"),
        pytest.param(b"7", 7, id="told"),
        pytest.param(b"0", 0, id="nothing"),
        pytest.param(b" 12\t", 12, id="with-blanks"),
        pytest.param(b"007", 7, id="with-zeros"),
        pytest.param(b"1000000", MAX_COST, id="the-most"),
    ],
)
def test_a_header_of_the_request_tells_its_cost(value: bytes | None, cost: int) -> None:
    assert ASKED.of_request(asking(value)) == cost


@pytest.mark.parametrize(
    "value",
    [b"", b"-1", b"+1", b"1.5", b"1e3", b"many", b"1,2", b"1000001", b"9" * 40, "\uff11".encode(), b"0x10"],
)
def test_a_header_that_cannot_be_read_is_a_bad_request(value: bytes) -> None:
    with pytest.raises(BadRequest, match="the header x-cost tells what this costs: a number from 0 to"):
        ASKED.of_request(asking(value))


@given(st.binary(max_size=20))
def test_no_header_does_anything_else(value: bytes) -> None:
    try:
        assert 0 <= ASKED.of_request(asking(value)) <= MAX_COST
    except BadRequest:
        assert not value.strip().isdigit() or int(value) > MAX_COST


def test_where_nobody_tells_the_amount_counts() -> None:
    assert [one.of_request(asking(b"9")) for one in (ONE, Cost(amount=3), TOLD)] == [1, 3, 5]
    assert [one.fixed for one in (ONE, Cost(amount=3), ASKED, TOLD)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("headers", "cost"),
    [
        pytest.param([(b"X-Tokens", b"9")], 9, id="header"),
        pytest.param([(b"grpc-metadata-x-tokens", b"9")], 9, id="initial-metadata"),
        pytest.param([(b"grpc-trailer-x-tokens", b"9")], 9, id="trailing-metadata"),
        pytest.param(
            [(b"grpc-metadata-x-tokens", b"1"), (b"grpc-trailer-x-tokens", b"9")], 9, id="the-last-word"
        ),
        pytest.param([(b"x-tokens", b"9"), (b"grpc-trailer-x-tokens", b"1")], 9, id="its-own-name-first"),
        pytest.param([(b"x-tokens", b"1"), (b"x-tokens", b"9")], 9, id="the-later-of-two"),
        pytest.param([(b"x-tokens", b"0")], 0, id="nothing"),
        pytest.param([(b"x-tokens", b"3000000")], MAX_COST, id="more-than-can-be-charged"),
        pytest.param([(b"x-tokens", b"9" * 8000)], MAX_COST, id="more-than-anybody-counts"),
        pytest.param([(b"x-tokens", b"0" * 8000 + b"9")], 9, id="many-zeros-before"),
        pytest.param([], None, id="silence"),
        pytest.param([(b"x-tokens", b"some")], None, id="noise"),
        pytest.param([(b"x-tokens", b"-4")], None, id="below-zero"),
        pytest.param([(b"my-x-tokens", b"4")], None, id="another-header"),
    ],
)
def test_a_header_of_the_answer_tells_what_was_spent(headers: HeaderList, cost: int | None) -> None:
    assert TOLD.of_answer(headers) == cost


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"amount": -1}, "0 to 1000000, not -1"),
        ({"amount": MAX_COST + 1}, "0 to 1000000, not 1000001"),
        ({"header": b"a", "answer_header": b"b"}, "not by both"),
    ],
)
def test_a_cost_that_makes_no_sense_is_refused(wrong: dict[str, int], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        Cost(**wrong)  # type: ignore[arg-type]
