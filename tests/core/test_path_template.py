"""Reading google.api.http templates."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.path_template import (
    MAX_SEGMENTS,
    TemplateError,
    Variable,
    parse_template,
)


@pytest.mark.parametrize(
    ("text", "shape", "verb", "variables"),
    [
        pytest.param("/", (), "", (), id="root"),
        pytest.param("/v1/shelves", ("=v1", "=shelves"), "", (), id="literals"),
        pytest.param("/v1/*/**", ("=v1", "*", "**"), "", (), id="wildcards"),
        pytest.param("/v1/{id}", ("=v1", "*"), "", (Variable(("id",), 1, 2, multiple=False),), id="variable"),
        pytest.param(
            "/v1/{a.b=x/*}/y",
            ("=v1", "=x", "*", "=y"),
            "",
            (Variable(("a", "b"), 1, 3, multiple=True),),
            id="nested-field-and-segments",
        ),
        pytest.param(
            "/v1/{name=**}:go",
            ("=v1", "**"),
            "go",
            (Variable(("name",), 1, 2, multiple=True),),
            id="rest-and-verb",
        ),
        pytest.param("/v1/a:b:c", ("=v1", "=a:b"), "c", (), id="last-colon-is-the-verb"),
        pytest.param("/caf%C3%A9", ("=café",), "", (), id="percent-encoded-literal"),
        pytest.param("/{a=x}", ("=x",), "", (Variable(("a",), 0, 1, multiple=False),), id="literal-variable"),
    ],
)
def test_a_template_is_read(
    text: str, shape: tuple[str, ...], verb: str, variables: tuple[Variable, ...]
) -> None:
    template = parse_template(text)

    assert template.shape == (shape, verb)
    assert template.variables == variables


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        pytest.param("", 0, "starts with '/'", id="empty"),
        pytest.param("v1", 0, "starts with '/'", id="no-slash"),
        pytest.param("/v1//x", 4, "a segment is empty", id="empty-segment"),
        pytest.param("/v1/", 4, "a segment is empty", id="trailing-slash"),
        pytest.param("/v1/**/x", 7, "nothing may follow", id="double-star-inside"),
        pytest.param("/{a=**}/x", 8, "nothing may follow", id="double-star-variable-inside"),
        pytest.param("/{a=**/b}", 7, "nothing may follow", id="double-star-in-variable"),
        pytest.param("/{a", 3, "'}' is missing", id="unclosed"),
        pytest.param("/{a=b", 5, "'}' is missing", id="unclosed-segments"),
        pytest.param("/{}", 2, "field name is missing", id="no-field"),
        pytest.param("/{a.}", 4, "field name is missing", id="no-nested-field"),
        pytest.param("/{a={b}}", 4, "inside another", id="nested-variable"),
        pytest.param("/{a}{b}", 4, "expected '/'", id="two-variables-in-a-segment"),
        pytest.param("/x{b}", 2, "expected '/'", id="variable-after-literal"),
        pytest.param("/{a}/{a}", 5, "used twice", id="same-variable"),
        pytest.param("/x:", 3, "verb after ':' is missing", id="no-verb"),
        pytest.param("/:go", 1, "needs a segment", id="verb-alone"),
        pytest.param("/a b", 2, "' ' cannot stand", id="space"),
        pytest.param("/a%2", 2, "'%' cannot stand", id="half-an-escape"),
        pytest.param("/%FF", 1, "not UTF-8", id="not-utf8"),
        pytest.param("/a%00", 1, "NUL", id="nul"),
        pytest.param("/a/../b", 3, "never be asked for", id="dots"),
        pytest.param("/a*", 2, "expected '/'", id="star-after-literal"),
        pytest.param("/a}", 2, "expected '/'", id="stray-brace"),
        pytest.param("/x" * (MAX_SEGMENTS + 1), 2 * MAX_SEGMENTS + 1, "at most", id="too-many-segments"),
        pytest.param("/" + "x" * 4000, 2048, "at most", id="too-long"),
    ],
)
def test_a_bad_template_is_refused_with_its_position(text: str, position: int, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason) as caught:
        parse_template(text)

    assert caught.value.position == position


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
LITERALS = st.one_of(
    st.from_regex(r"[A-Za-z0-9\-_~!$&'()+,;=@]{1,8}", fullmatch=True),
    st.sampled_from(["caf%C3%A9", "a%20b", "a%2Fb", "%7Bx%7D", "%2A"]),
)


@st.composite
def templates(draw: st.DrawFn) -> str:
    parts = draw(st.lists(st.one_of(LITERALS, st.just("*")), min_size=1, max_size=4))
    fields = draw(st.lists(NAMES, unique=True, min_size=0, max_size=3))
    for field in fields:
        inner = draw(st.lists(st.one_of(LITERALS, st.just("*")), min_size=0, max_size=2))
        parts.append("{" + field + ("=" + "/".join(inner) if inner else "") + "}")
    if draw(st.booleans()):
        parts.append(draw(st.sampled_from(["**", "{rest=**}", "{rest=x/**}"])))
    verb = draw(st.sampled_from(["", ":go", ":a-b"]))
    return "/" + "/".join(parts) + verb


@given(templates())
@settings(max_examples=150)
def test_writing_a_template_and_reading_it_again_changes_nothing(text: str) -> None:
    first = parse_template(text)
    again = parse_template(first.canonical())

    assert again.shape == first.shape
    assert again.variables == first.variables
    assert again.canonical() == first.canonical()


@given(
    st.one_of(st.text(max_size=40), st.text(alphabet="/{}*=.:%ab2F\u00e9\x00", max_size=30).map("/".__add__))
)
@settings(max_examples=200)
def test_any_text_is_a_template_or_a_template_error(text: str) -> None:
    try:
        template = parse_template(text)
    except TemplateError as error:
        position = error.position
    else:
        position = 0
        assert parse_template(template.canonical()).shape == template.shape

    assert 0 <= position <= len(text)
