"""Looking paths up."""

from __future__ import annotations

import itertools
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core import routing
from silence_gateway.core.path_template import parse_template
from silence_gateway.core.routing import ANY_METHOD, Node, RouteBuilder, Routes
from silence_gateway.errors import BadRequest


def routes(*lines: str) -> Routes[str]:
    """Build routes from lines like `GET /v1/{id}`; each leads to its own text."""
    builder: RouteBuilder[str] = RouteBuilder()
    for line in lines:
        method, _, template = line.partition(" ")
        assert builder.add(method, parse_template(template), line) is None
    return builder.build()


SHOP = routes(
    "GET /v1/books",
    "POST /v1/books",
    "GET /v1/books/{id}",
    "GET /v1/books/new",
    "POST /v1/books/{id}:lend",
    "GET /v1/books/{id}/pages/{number}",
    "GET /v1/{name=files/**}",
    "GET /v1/{parent=shelves/*}/books",
    "GET /v1/files/*/info",
    "DELETE /v1/books/*",
    "GET /",
    "* /legacy/**",
    "POST /legacy/upload",
    "POST /pkg.Service/Method",
)


@pytest.mark.parametrize(
    ("method", "path", "route", "values"),
    [
        pytest.param("GET", "/v1/books", "GET /v1/books", (), id="literal"),
        pytest.param("GET", "/v1/b%6Foks", "GET /v1/books", (), id="literal-encoded"),
        pytest.param("GET", "/v1/books/7", "GET /v1/books/{id}", ("7",), id="variable"),
        pytest.param("GET", "/v1/books/new", "GET /v1/books/new", (), id="literal-beats-star"),
        pytest.param("DELETE", "/v1/books/new", "DELETE /v1/books/*", (), id="method-decides-before-literal"),
        pytest.param("GET", "/v1/books/7/pages/3", "GET /v1/books/{id}/pages/{number}", ("7", "3"), id="two"),
        pytest.param(
            "GET", "/v1/books/new/pages/3", "GET /v1/books/{id}/pages/{number}", ("new", "3"), id="back"
        ),
        pytest.param("POST", "/v1/books/7:lend", "POST /v1/books/{id}:lend", ("7",), id="verb"),
        pytest.param(
            "GET", "/v1/books/7:lend", "GET /v1/books/{id}", ("7:lend",), id="verb-of-another-method"
        ),
        pytest.param("GET", "/v1/books/7:x", "GET /v1/books/{id}", ("7:x",), id="verb-not-registered"),
        pytest.param(
            "GET", "/v1/books/7%3Alend", "GET /v1/books/{id}", ("7:lend",), id="encoded-colon-is-data"
        ),
        pytest.param("GET", "/v1/books/a%2Fb", "GET /v1/books/{id}", ("a/b",), id="one-segment-decodes-all"),
        pytest.param("GET", "/v1/books/%C3%A9%20", "GET /v1/books/{id}", ("é ",), id="utf8"),
        pytest.param("GET", "/v1/files/a/b", "GET /v1/{name=files/**}", ("files/a/b",), id="rest"),
        pytest.param("GET", "/v1/files", "GET /v1/{name=files/**}", ("files",), id="rest-may-be-empty"),
        pytest.param("GET", "/v1/files/", "GET /v1/{name=files/**}", ("files/",), id="rest-may-be-a-slash"),
        pytest.param("GET", "/v1/files/a/info", "GET /v1/files/*/info", (), id="star-beats-double-star"),
        pytest.param(
            "GET", "/v1/files/a%2Fb%2f%20c", "GET /v1/{name=files/**}", ("files/a%2Fb%2f c",), id="keeps-2F"
        ),
        pytest.param(
            "GET", "/v1/shelves/3/books", "GET /v1/{parent=shelves/*}/books", ("shelves/3",), id="inner"
        ),
        pytest.param("GET", "/", "GET /", (), id="root"),
        pytest.param("HEAD", "/v1/books/7", "GET /v1/books/{id}", ("7",), id="head-by-get"),
        pytest.param("HEAD", "/v1/books", "GET /v1/books", (), id="head-by-get-plain"),
        pytest.param("PROPFIND", "/legacy/x/y", "* /legacy/**", (), id="any-method"),
        pytest.param("POST", "/legacy/upload", "POST /legacy/upload", (), id="literal-under-any"),
        pytest.param("GET", "/legacy/upload", "* /legacy/**", (), id="any-where-literal-has-not-the-method"),
        pytest.param("POST", "/pkg.Service/Method", "POST /pkg.Service/Method", (), id="rpc"),
    ],
)
def test_a_path_finds_its_route(method: str, path: str, route: str, values: tuple[str, ...]) -> None:
    found = SHOP.find(method, path)

    assert found is not None
    assert (found.target, found.values) == (route, values)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1"),
        ("GET", "/v1/books/"),
        ("GET", "/v1//books"),
        ("GET", "//"),
        ("PUT", "/v1/books"),
        ("POST", "/v1/books/:lend"),
        ("HEAD", "/pkg.Service/Method"),
        ("GET", "/V1/books"),
    ],
)
def test_a_path_without_a_route_finds_nothing(method: str, path: str) -> None:
    assert SHOP.find(method, path) is None


@pytest.mark.parametrize(
    "path",
    ["", "x", "/a%", "/a%zz", "/a%2", "/%FF", "/v1/%C3", "/v1/books/%00", "/a/../b", "/a/%2e%2E", "/.", "/é"],
)
def test_a_path_that_cannot_be_decoded_is_the_callers_fault(path: str) -> None:
    with pytest.raises(BadRequest):
        SHOP.find("GET", path)
    with pytest.raises(BadRequest):
        SHOP.allowed(path)


def test_names_that_only_start_with_dots_are_fine() -> None:
    found = SHOP.find("GET", "/v1/books/.hidden")

    assert found is not None
    assert found.values == (".hidden",)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/books", ("GET", "HEAD", "POST")),
        ("/v1/books/new", ("DELETE", "GET", "HEAD")),
        ("/v1/books/7:lend", ("DELETE", "GET", "HEAD", "POST")),
        ("/legacy/x", ("*",)),
        ("/nothing", ()),
    ],
)
def test_allowed_names_every_method_of_a_path(path: str, methods: tuple[str, ...]) -> None:
    assert SHOP.allowed(path) == methods


def test_the_second_route_of_one_shape_is_refused_and_names_the_first() -> None:
    builder: RouteBuilder[str] = RouteBuilder()

    assert builder.add("GET", parse_template("/v1/{a}"), "first") is None
    assert builder.add("GET", parse_template("/v1/{b}"), "second") == "first"
    assert builder.add("POST", parse_template("/v1/{b}"), "other method") is None
    found = builder.build().find("GET", "/v1/x")
    assert found is not None
    assert found.target == "first"


def test_a_look_up_visits_each_place_at_most_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Literals and stars at every level is the worst there is, and stays linear in the routes."""
    depth = 9
    lines = ["GET /" + "/".join(steps) + "/end" for steps in itertools.product(("a", "*"), repeat=depth)]
    worst = routes(*lines)
    visits = 0
    search = routing.search

    def counting(node: Node[str], *rest: object) -> object:
        nonlocal visits
        visits += 1
        return search(node, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(routing, "search", counting)

    assert worst.find("GET", "/a" * depth + "/nope") is None
    assert visits <= 2 ** (depth + 1)
    visits = 0
    assert worst.find("GET", "/a" * 5000) is None
    assert visits <= 2 ** (depth + 1)


SEGMENTS = st.text(min_size=1, max_size=6).filter(lambda text: text not in {".", ".."} and "\x00" not in text)


@given(st.lists(st.tuples(st.booleans(), SEGMENTS), min_size=1, max_size=5))
@settings(max_examples=150)
def test_what_was_put_into_a_path_comes_out_of_it(parts: list[tuple[bool, str]]) -> None:
    template = "/" + "/".join(
        f"{{v{index}}}" if variable else quote(text, safe="") for index, (variable, text) in enumerate(parts)
    )
    path = "/" + "/".join(quote(text, safe="") for _, text in parts)

    found = routes("GET " + template).find("GET", path)

    assert found is not None
    assert found.values == tuple(text for variable, text in parts if variable)


@given(st.text(alphabet="/%2Fabv1:.*é\x00~", max_size=30))
@settings(max_examples=200)
def test_any_path_is_found_or_not_or_a_bad_request(path: str) -> None:
    try:
        found = SHOP.find("GET", path)
        allowed = SHOP.allowed(path)
    except BadRequest:
        return
    if found is not None:
        assert "GET" in allowed or ANY_METHOD in allowed
