"""The one table of codes."""

from __future__ import annotations

import pytest

from silence_gateway import errors
from silence_gateway.core.status import Code
from silence_gateway.core.websocket import is_close_code
from silence_gateway.edge.codes import CODES, UNEXPECTED, Codes, codes_of


def leaf_errors() -> set[type[errors.GatewayError]]:
    """Return the errors of errors.py that have no children there."""
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.GatewayError)
    }
    return {kind for kind in kinds if not any(kind in other.__bases__ for other in kinds)}


def test_every_error_has_codes() -> None:
    """A new error cannot be added without deciding how it looks outside."""
    assert leaf_errors() == set(CODES)


def test_every_row_is_possible() -> None:
    for codes in CODES.values():
        assert 400 <= codes.http <= 599
        assert codes.grpc != Code.OK
        assert is_close_code(codes.close)


class TooManyCooks(errors.AccessDenied):
    """An error that another file made from one of ours."""


@pytest.mark.parametrize(
    ("error", "codes"),
    [
        (TooManyCooks("no"), CODES[errors.AccessDenied]),
        (errors.RpcError(5), Codes(404, Code.NOT_FOUND, 1011)),
        (errors.RpcError(99), CODES[errors.RpcError]),
        (ValueError("x"), UNEXPECTED),
        (errors.GatewayError("x"), UNEXPECTED),
    ],
)
def test_errors_find_their_row(error: Exception, codes: Codes) -> None:
    assert codes_of(error) == codes
