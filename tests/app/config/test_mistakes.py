"""Every mistake in mistakes.txt is answered with exactly the lines that stand there."""

from __future__ import annotations

from pathlib import Path

import pytest

from silence_gateway.app.config.load import load_text
from silence_gateway.errors import ConfigError

LEAST = "upstreams: {shop: {endpoints: [127.0.0.1:9001]}}\n"
TABLE = Path(__file__).with_name("mistakes.txt")


def cases() -> list[tuple[str, str, list[str]]]:
    found = []
    for part in TABLE.read_text().split("\n=== ")[1:]:
        name, _, rest = part.partition("\n")
        text, _, lines = rest.partition("\n---\n")
        alone = name.startswith("alone: ")
        found.append((name, text if alone else LEAST + text, lines.strip().splitlines()))
    return found


def test_the_table_of_mistakes_is_there() -> None:
    assert len(cases()) >= 50


@pytest.mark.parametrize(
    ("text", "lines"), [pytest.param(text, lines, id=name) for name, text, lines in cases()]
)
def test_a_mistake_is_named_with_its_place_and_the_way_out(text: str, lines: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "g.yaml", {})

    assert list(caught.value.problems) == lines
