"""YAML with places: what is read, where it stands, and what is refused."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.app.config import document
from silence_gateway.app.config.document import Broken, Mapping, Node, Place, Scalar, Sequence, decode, parse


def refusal(text: str) -> tuple[int, int, str]:
    with pytest.raises(Broken) as caught:
        parse(text)
    return caught.value.place.line, caught.value.place.column, caught.value.message


def test_every_key_and_value_knows_its_line_and_column() -> None:
    root = parse("a: 1\nlist:\n  - x\n  - {b: ü, c: 2}\n")

    assert isinstance(root, Mapping)
    assert root.key_places == {"a": Place(1, 1), "list": Place(2, 1)}
    assert root.entries["a"] == Scalar(Place(1, 4), "1")
    inner = root.entries["list"]
    assert isinstance(inner, Sequence)
    assert inner.items[0].place == Place(3, 5)
    assert isinstance(inner.items[1], Mapping)
    assert inner.items[1].key_places == {"b": Place(4, 6), "c": Place(4, 12)}


@pytest.mark.parametrize("text", ["on", "010", "1e3", "2026-01-01", "1:30", "0x1F", "NO", "1_000"])
def test_yaml_decides_no_types(text: str) -> None:
    root = parse(f"a: {text}")

    assert isinstance(root, Mapping)
    assert root.entries["a"] == Scalar(Place(1, 4), text)


@pytest.mark.parametrize(
    ("text", "value"), [("", None), ("null", None), ("~", None), ("'null'", "null"), ('""', "")]
)
def test_only_an_unquoted_null_is_nothing(text: str, value: str | None) -> None:
    root = parse(f"a: {text}")

    assert isinstance(root, Mapping)
    found = root.entries["a"]
    assert isinstance(found, Scalar)
    assert found.text == value


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "null", "---\n...\n"])
def test_a_file_without_values_says_nothing(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "line", "column", "part"),
    [
        pytest.param(
            "a: 1\nb: 2\na: 3\n", 3, 1, "'a' is here twice: it is on line 1 already", id="duplicate"
        ),
        pytest.param("a: {b: 1, b: 2}", 1, 11, "'b' is here twice", id="duplicate-in-braces"),
        pytest.param("a: &x 1\nb: *x\n", 1, 4, "anchors (&name) are not supported", id="anchor"),
        pytest.param("a: *x\n", 1, 4, "aliases (*name) are not supported", id="alias"),
        pytest.param("a: !!python/object:os.system x", 1, 4, "tags (!name) are not supported", id="tag"),
        pytest.param("a: 1\n---\nb: 2\n", 2, 1, "a second document begins here", id="two-documents"),
        pytest.param("? [a, b]\n: c\n", 1, 3, "a key must be plain text", id="list-as-key"),
        pytest.param("a:\n\tb: 1\n", 2, 1, "a tab is used here: YAML is indented with spaces only", id="tab"),
        pytest.param("a: b: c\n", 1, 5, "quote text that holds ': '", id="colon"),
        pytest.param("a: 'open\n", 2, 1, "never closed", id="open-quote"),
        pytest.param("a: [1, 2\nb: 3\n", 2, 2, "a ',' or ']' is missing", id="open-bracket"),
        pytest.param("a: {t: ${X}, u: 1}\n", 1, 9, 'put quotes around "${NAME}"', id="reference-in-braces"),
        pytest.param("a: \x07\n", 1, 4, "may not be in a YAML file", id="control-character"),
        pytest.param("a: \ud800\n", 1, 4, "may not be in a YAML file", id="lone-surrogate"),
        pytest.param("[" * 40, 1, 33, "nested more than 32 deep", id="deep"),
    ],
)
def test_what_we_do_not_read_is_refused_where_it_stands(text: str, line: int, column: int, part: str) -> None:
    found_line, found_column, message = refusal(text)

    assert part in message
    if yaml.__with_libyaml__:
        assert (found_line, found_column) == (line, column)


def test_a_bomb_of_aliases_is_refused_at_its_first_anchor() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )

    assert refusal(bomb)[0] == 1


@pytest.mark.parametrize(
    "text", ["[" * 900_000, "{" * 900_000, "- " * 400_000, "[\n" * 400_000, "a: [" + "x," * 400_000]
)
def test_a_large_hostile_file_is_refused_in_little_time(text: str) -> None:
    started = time.monotonic()
    refusal(text)

    # Reading everything would take far longer even with libyaml's speed and a slow machine.
    assert time.monotonic() - started < 20


def test_size_and_encoding_are_checked_before_yaml_is_read() -> None:
    assert decode(b"\xef\xbb\xbfa: 1") == "a: 1"
    with pytest.raises(Broken, match="larger than 1 MiB"):
        decode(b"x" * (document.MAX_BYTES + 1))
    with pytest.raises(Broken, match="byte 0xff is not UTF-8") as caught:
        decode(b"a: 1\nb: \xff\n")
    assert caught.value.place == Place(2, 4)


@settings(max_examples=150)
@given(st.one_of(st.text(max_size=80), st.text(alphabet=" \n\t:-[]{}#&*!|>'\"%@`?,ab${}", max_size=80)))
def test_any_text_is_a_tree_or_broken(text: str) -> None:
    try:
        parse(text)
    except Broken as exc:
        broken = exc
    else:
        return
    assert min(broken.place) >= 1
    assert broken.message.isprintable()


def values_of(node: Node | None) -> object:
    match node:
        case Mapping(entries=entries):
            return {key: values_of(part) for key, part in entries.items()}
        case Sequence(items=items):
            return [values_of(part) for part in items]
        case Scalar(text=text):
            return text
        case None:
            return "nothing"


@settings(max_examples=100)
@given(st.text(alphabet=" \n:-[]{}#'\"?,ab", max_size=40))
def test_both_parsers_of_pyyaml_read_the_same_values(text: str) -> None:
    """A wheel without libyaml must not change what a file means; each may refuse a little more."""

    def read(loader: object) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(document, "LOADER", loader)
            try:
                return values_of(document.parse(text))
            except Broken:
                return Broken

    slow, fast = read(yaml.SafeLoader), read(document.LOADER)
    if Broken not in (slow, fast):
        assert slow == fast


def refusal_with_aliases(text: str) -> str:
    with pytest.raises(Broken) as caught:
        parse(text, aliases=True)
    return caught.value.message


def test_an_alias_is_what_it_names() -> None:
    root = parse("a: &x {b: [1, 2]}\nc: *x\n", aliases=True)

    assert isinstance(root, Mapping)
    assert root.entries["c"] is root.entries["a"]


def test_merged_keys_give_way_to_those_that_are_there() -> None:
    root = parse("- &x {a: 1, b: 2}\n- &y {b: 3, c: 4}\n- {<<: [*x, *y], a: 5}\n", aliases=True)

    assert isinstance(root, Sequence)
    merged = root.items[2]
    assert isinstance(merged, Mapping)
    assert {key: node.text for key, node in merged.entries.items() if isinstance(node, Scalar)} == {
        "a": "5", "b": "2", "c": "4",
    }  # fmt: skip
    assert merged.key_places["c"] == Place(2, 13)


def test_aliases_cannot_make_a_small_file_large() -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 30):
        laughs += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"

    assert "values, aliases (*name) counted out" in refusal_with_aliases(laughs)


def test_aliases_cannot_make_a_flat_file_deep() -> None:
    steps = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 40))

    assert "with this alias" in refusal_with_aliases(steps)


def test_an_alias_of_nothing_or_of_itself_is_refused() -> None:
    assert "nothing above" in refusal_with_aliases("a: *x")
    assert "inside of what it stands for" in refusal_with_aliases("a: &x [{b: *x}]")
    assert "a key must be plain text" in refusal_with_aliases("a: &x b\n*x : c\n")


@given(st.text(alphabet="ab:&*x<-[]{}, \n", max_size=40))
def test_any_text_with_aliases_is_read_or_refused(text: str) -> None:
    try:
        root = parse(text, aliases=True)
    except Broken:
        return
    assert root is None or document.measure(root)[0] >= 1
