"""Names of methods, and of all methods of a service, against the paths of calls."""

from __future__ import annotations

import pytest

from silence_gateway.core.method_set import MethodSet

NAMED = MethodSet(["shop.v1.Shop/Get", "shop.v1.Till/*", "Bare/*"])


@pytest.mark.parametrize(
    ("path", "is_named"),
    [
        (b"/shop.v1.Shop/Get", True),
        (b"/shop.v1.Shop/GetAll", False),
        (b"/shop.v1.Shop/*", False),
        (b"shop.v1.Shop/Get", False),
        (b"/shop.v1.Till/Pay", True),
        (b"/shop.v1.Till/", True),
        (b"/shop.v1.Till", False),
        (b"/shop.v1.Tills/Pay", False),
        (b"/Bare/Get", True),
        (b"", False),
    ],
)
def test_a_method_is_named_or_all_of_its_service_are(path: bytes, *, is_named: bool) -> None:
    assert (path in NAMED) is is_named


def test_no_names_are_no_methods() -> None:
    assert NAMED
    assert not MethodSet(())


def test_names_that_mean_nothing_are_found() -> None:
    assert NAMED.not_among(["shop.v1.Shop/Get", "Bare/Get"]) == ["shop.v1.Till/*"]
    assert NAMED.not_among([]) == ["Bare/*", "shop.v1.Shop/Get", "shop.v1.Till/*"]
