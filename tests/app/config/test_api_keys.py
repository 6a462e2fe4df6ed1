"""The file of API keys."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.app.config.api_keys import MAX_PROBLEMS, parse_moment, read_key_file
from silence_gateway.core.api_keys import KeyRing
from silence_gateway.errors import ConfigError

KEY = "a-key-of-enough-letters"
DIGEST = sha256(KEY.encode()).hexdigest()
OTHER = "another-key-of-letters"
NOT_A_NAME = (
    "1:13: keys[0].id: 'a b' is not a name: use letters, digits, '-', '_' and '.', 64 at most, and begin "
    "with a letter or digit"
)
NOT_A_MOMENT = (
    "1:55: keys[0].expires: 'tomorrow' is not a moment: write 2030-12-31 (its beginning, UTC) or "
    "2030-12-31T18:00:00Z"
)


def read(text: str, environment: dict[str, str] | None = None) -> KeyRing:
    return read_key_file(Path("keys.yaml"), text.encode(), environment or {})


def problems(text: str, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, environment)
    return list(caught.value.problems)


def test_keys_are_known_by_their_hash_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "third").write_text("the-third-key-in-a-file\n")
    text = f"""
keys:
  - id: partner.a
    sha256: {DIGEST.upper()}
    user: ann
    expires: 2030-01-01T02:00:00+02:00
  - {{id: ci, key: "${{CI_KEY}}"}}
  - {{id: third, key: "file:third"}}
"""
    ring = read_key_file(tmp_path / "keys.yaml", text.encode(), {"CI_KEY": OTHER})

    found = [ring.find(key.encode(), 0) for key in (KEY, OTHER, "the-third-key-in-a-file")]
    assert [key and (key.id, key.user, key.until_us) for key in found] == [
        ("partner.a", "ann", round(datetime(2030, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)),
        ("ci", "", 0),
        ("third", "", 0),
    ]


def test_a_file_may_hold_no_keys() -> None:
    assert len(read("keys: []")) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["1:1: the file is empty: write keys: [] if no key is to be accepted"]),
        ("keys: [", ["2:1: a value is expected here"]),
        ("[]", ["1:1: the file takes keys, such as 'keys: ...'"]),
        ("key: []", ["1:1: unknown key 'key' (did you mean 'keys'?)", "1:1: the file needs the key 'keys'"]),
        (
            f"keys: [{{sha256: {DIGEST}}}]",
            ["1:8: keys[0] needs the key 'id', such as edge"],
        ),
        (
            f"keys: [{{id: a b, key: {KEY}}}]",
            [NOT_A_NAME],
        ),
        ("keys: [{id: a}]", ["1:8: 'a': write one of sha256 and key"]),
        (f"keys: [{{id: a, key: {KEY}, sha256: {DIGEST}}}]", ["1:8: 'a': write one of sha256 and key"]),
        (
            f"keys:\n- {{id: a, key: {KEY}}}\n- {{id: a, key: {OTHER}}}",
            ["3:8: another key has the id 'a' already: ids are unique"],
        ),
        (
            f"keys:\n- {{id: a, key: {KEY}}}\n- {{id: b, sha256: {DIGEST}}}",
            ["3:3: 'b' has the same key as 'a'"],
        ),
        (
            f"keys: [{{id: a, key: {KEY}, expires: tomorrow}}]",
            [NOT_A_MOMENT],
        ),
        (
            f"keys: [{{id: a, key: {KEY}, expires: '2030-01-01T00:00:00'}}]",
            ["1:55: keys[0].expires: '2030-01-01T00:00:00' says no time zone: end it with Z for UTC"],
        ),
        (
            f"keys: [{{id: a, key: {KEY}, user: {'x' * 256}}}]",
            ["1:52: keys[0].user: a user is a text of 1 to 255 characters that can be printed"],
        ),
        (
            f"keys: [{{id: a, key: {KEY}, owner: x}}]",
            ["1:46: unknown key 'owner' in keys[0]: the keys here are id, sha256, key, user, expires"],
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, expected: list[str]) -> None:
    assert problems(text) == [f"keys.yaml:{line}" for line in expected]


@pytest.mark.parametrize("secret", ["hunter2", "hunter2 with blanks in it", "hunter2-\u00fc-hunter2-hunter2"])
def test_a_key_that_can_be_guessed_or_not_be_sent_is_refused_and_not_repeated(secret: str) -> None:
    for text in (f"keys: [{{id: a, key: '{secret}'}}]", f"keys: [{{id: a, sha256: '{secret}'}}]"):
        (problem,) = problems(text)
        assert problem.startswith("keys.yaml:1:")
        assert "hunter2" not in problem
    (problem,) = problems('keys: [{id: a, key: "${K}"}]', {"K": secret})
    assert "hunter2" not in problem


def test_what_is_missing_outside_is_named() -> None:
    assert "the environment variable CI_KEY is not set" in problems('keys: [{id: a, key: "${CI_KEY}"}]')[0]
    assert "cannot be read" in problems('keys: [{id: a, key: "file:nowhere"}]')[0]


def test_a_file_full_of_mistakes_is_told_up_to_a_bound() -> None:
    said = problems("keys:\n" + "- {id: a}\n" * 200)

    assert len(said) == MAX_PROBLEMS + 1
    assert said[-1] == "keys.yaml: and 299 more problems"


def test_ten_thousand_keys_are_no_trouble() -> None:
    text = "keys:\n" + "".join(f"- {{id: k{number}, sha256: {number:064x}}}\n" for number in range(10_000))

    assert len(text) < 1 << 20
    assert len(read(text)) == 10_000


def test_a_file_that_is_too_large_or_no_text_is_refused() -> None:
    assert "larger than 1 MiB" in problems("#" * (1 << 20) + "\nkeys: []")[0]
    with pytest.raises(ConfigError, match=r"keys\.yaml:1:1: byte 0xff is not UTF-8"):
        read_key_file(Path("keys.yaml"), b"\xff", {})


@given(st.datetimes(datetime(2000, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_moment_is_read_as_it_is_written(moment: datetime) -> None:
    assert parse_moment(moment.isoformat()) == round(moment.timestamp() * 1_000_000)


@given(st.text("0123456789-:TZ+ .", max_size=30))
def test_any_other_text_is_refused(text: str) -> None:
    try:
        moment_us = parse_moment(text)
    except ValueError:
        return
    assert moment_us > 946_000_000_000_000
