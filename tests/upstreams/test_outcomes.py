"""What the end of a call says about its endpoint: one table, every kind of end."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.core.breaker import FAILURE_CODES
from silence_gateway.core.status import Code
from silence_gateway.errors import (
    BadRequest,
    RpcError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from silence_gateway.upstreams.outcomes import Evidence, code_of, evidence_of

ANSWERS = set(Code) - FAILURE_CODES - {Code.OK, Code.DEADLINE_EXCEEDED}


@pytest.mark.parametrize("code", sorted(ANSWERS))
def test_a_business_error_is_an_answer(code: Code) -> None:
    assert evidence_of(RpcError(code), FAILURE_CODES, connection_lost=False) is Evidence.ANSWER


@pytest.mark.parametrize("code", sorted(FAILURE_CODES))
def test_codes_that_blame_the_endpoint_are_failures_unless_configured_otherwise(code: Code) -> None:
    assert evidence_of(RpcError(code), FAILURE_CODES, connection_lost=False) is Evidence.FAILURE
    assert evidence_of(RpcError(code), frozenset(), connection_lost=False) is Evidence.ANSWER


@pytest.mark.parametrize(
    ("error", "lost", "evidence", "code"),
    [
        (RpcError(Code.DEADLINE_EXCEEDED), False, Evidence.SILENCE, Code.DEADLINE_EXCEEDED),
        (UpstreamTimeout("late"), False, Evidence.SILENCE, Code.DEADLINE_EXCEEDED),
        (UpstreamUnavailable("refused"), False, Evidence.FAILURE, Code.UNAVAILABLE),
        (UpstreamUnavailable("busy", sent=False, refused=True), False, Evidence.PUSHBACK, Code.UNAVAILABLE),
        (UpstreamUnavailable("went down with it"), True, Evidence.NOTHING, Code.UNAVAILABLE),
        (UpstreamProtocolError("HTML"), False, Evidence.FAILURE, Code.INTERNAL),
        (asyncio.CancelledError(), False, Evidence.NOTHING, Code.CANCELLED),
        (GeneratorExit(), False, Evidence.NOTHING, Code.CANCELLED),
        (BadRequest("metadata"), False, Evidence.NOTHING, Code.UNKNOWN),
        (RpcError(99), False, Evidence.ANSWER, Code.UNKNOWN),
    ],
)
def test_every_other_end(error: BaseException, lost: bool, evidence: Evidence, code: Code) -> None:
    assert evidence_of(error, FAILURE_CODES, connection_lost=lost) is evidence
    assert code_of(error) == code
