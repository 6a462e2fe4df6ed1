"""A route may put another beginning in the place of its own, and nobody gets out of that one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.forwarding import check_path
from silence_gateway.core.path_rewrite import PathRewrite
from silence_gateway.core.path_template import parse_template
from silence_gateway.core.routing import RouteBuilder
from silence_gateway.errors import BadRequest


@pytest.mark.parametrize(
    ("path", "to", "target", "asked"),
    [
        ("/legacy/**", "/", "/legacy/a/b?x=/legacy&y", "/a/b?x=/legacy&y"),
        ("/legacy/**", "/", "/legacy", "/"),
        ("/legacy/**", "/", "/legacy/", "/"),
        ("/legacy/**", "/", "/legacy?q=a?b", "/?q=a?b"),
        ("/legacy/**", "/", "/legacy?", "/?"),
        ("/legacy/**", "/", "/%6Cegacy/a", "/a"),
        ("/legacy/**", "/", "/legacy/a%2Fb//c/", "/a%2Fb//c/"),
        ("/legacy/**", "/", "/legacy/legacy/x", "/legacy/x"),
        ("/legacy/**", "/v2", "/legacy", "/v2"),
        ("/legacy/**", "/v2", "/legacy/", "/v2/"),
        ("/legacy/**", "/v2/x", "/legacy//evil.com", "/v2/x//evil.com"),
        ("/a/b/**", "/", "/a/b/c", "/c"),
        ("/a/b/**", "/a", "/a/b/c", "/a/c"),
        ("/**", "/v2", "/a?b", "/v2/a?b"),
    ],
)
def test_the_beginning_changes_and_the_rest_goes_on_byte_for_byte(
    path: str, to: str, target: str, asked: str
) -> None:
    assert PathRewrite.between(path, to).of(target) == asked


@pytest.mark.parametrize("target", ["/legacy//evil.com", "/legacy//", "/legacy///admin?x"])
def test_nothing_is_left_that_could_be_a_host(target: str) -> None:
    with pytest.raises(BadRequest, match="behind /legacy"):
        PathRewrite.between("/legacy/**", "/").of(target)


def test_the_service_is_told_what_was_taken_away_and_nothing_else() -> None:
    assert PathRewrite.between("/a/b/**", "/").prefix == "/a/b"
    assert PathRewrite.between("/a/b/**", "/v2").prefix == ""


@pytest.mark.parametrize(
    ("path", "to", "says"),
    [
        ("/legacy", "/", "write /legacy/[*][*]"),
        ("/", "/x", "end in /[*][*]"),
        ("/legacy/**:go", "/", "end in /[*][*]"),
        ("/legacy/*", "/", "end in /[*][*]"),
        ("/*/x/**", "/", "a route for each"),
        ("/**", "/", "begin so already"),
        ("/v2/**", "/v2", "begin so already"),
    ],
)
def test_what_cannot_be_meant_is_refused(path: str, to: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PathRewrite.between(path, to)


@given(
    rest=st.lists(st.sampled_from(["/", "..", ".", "%2e", "%2F", "%5C", ";", "a", "?", "//", "%25"])),
    to=st.sampled_from(["/", "/v2"]),
    where=st.sampled_from(["/legacy", "/%6cegacy"]),
)
def test_nobody_leaves_the_new_beginning(rest: list[str], to: str, where: str) -> None:
    """What routing and `check_path` let through stays where the route leads, however it is read."""
    target = where + "".join(rest)
    path = target.partition("?")[0]
    builder: RouteBuilder[str] = RouteBuilder()
    builder.add("*", parse_template("/legacy/**"), "web")
    try:
        found = builder.build().find("GET", path)
        check_path(path)
        if found is None:
            return
        asked = PathRewrite.between("/legacy/**", to).of(target)
    except BadRequest:
        return

    asked_path, _, query = asked.partition("?")
    assert query == target.partition("?")[2]
    assert asked_path == to or asked_path.startswith(f"{to.rstrip('/')}/")
    assert not (to == "/" and asked_path.startswith("//"))
    check_path(asked_path)
    assert not {".", ".."} & set(asked_path.split("/"))
