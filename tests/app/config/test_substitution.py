"""`${NAME}` and `file:PATH`: put in as text, once, and never trusted with more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.app.config.substitution import MAX_FILE_BYTES, Filled, fill

ENVIRONMENT = {"PORT": "8080", "EMPTY": "", "NESTED": "${PORT}", "LIKE_FILE": "file:/etc/hostname"}
HERE = Path()


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", Filled("plain")),
        ("${PORT}", Filled("8080", ("PORT",))),
        ("h:${PORT}/${PORT}", Filled("h:8080/8080", ("PORT", "PORT"))),
        ("${NOPE:-x}", Filled("x", ("NOPE",))),
        ("${NOPE:-}", Filled("", ("NOPE",))),
        ("${EMPTY:-x}", Filled("x", ("EMPTY",))),
        ("${EMPTY}", Filled("", ("EMPTY",))),
        ("$${PORT}", Filled("${PORT}")),
        ("$PORT $ $$", Filled("$PORT $ $$")),
        ("${NESTED}", Filled("${PORT}", ("NESTED",))),
        ("${LIKE_FILE}", Filled("file:/etc/hostname", ("LIKE_FILE",))),
    ],
)
def test_references_are_put_in_once_and_as_text(text: str, filled: Filled) -> None:
    assert fill(text, ENVIRONMENT, HERE) == filled


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("${NOPE}", "the environment variable NOPE is not set: set it, or write ${NOPE:-default}"),
        ("${1X}", "'${1X}' is not a reference"),
        ("${PORT", "'${PORT' is not a reference"),
        ("${}", "'${}' is not a reference"),
        ("${A:-${PORT}}", "is not a reference"),
        ("${PORT:+x}", "is not a reference"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(text: str, part: str) -> None:
    with pytest.raises(ValueError) as caught:
        fill(text, ENVIRONMENT, HERE)

    assert part in str(caught.value)


def test_a_file_gives_its_text_without_the_last_newline(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret: {${PORT}}\n")

    assert fill("file:secret", {}, tmp_path) == Filled("s3cret: {${PORT}}", (), "secret")
    assert fill("file:${DIR}/secret", {"DIR": str(tmp_path)}, HERE).text == "s3cret: {${PORT}}"


def test_files_are_bounded_and_regular(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    os.mkfifo(tmp_path / "pipe")

    for name, part in [
        ("large", "larger than 64 KiB"),
        ("binary", "not UTF-8"),
        ("pipe", "not a regular file"),
        (".", "not a regular file"),
        ("missing", "No such file"),
        ("a\0b", "not a path"),
    ]:
        with pytest.raises(ValueError, match=part):
            fill(f"file:{name}", {}, tmp_path)


@given(st.text(max_size=60), st.text(alphabet="QXZ", min_size=6, max_size=20))
def test_a_refusal_never_repeats_what_a_variable_holds(text: str, value: str) -> None:
    said = ""
    try:
        fill("${A}" + text, {"A": value}, HERE)
    except ValueError as exc:
        said = str(exc)
    assert value not in said
