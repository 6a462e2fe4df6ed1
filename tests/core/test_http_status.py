"""By what name answers are counted."""

from __future__ import annotations

import pytest

from silence_gateway.core.http_status import counted_status, name_of_status
from silence_gateway.core.status import Code
from silence_gateway.upstreams.outcomes import code_of_status


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (101, "101"), (200, "200"), (299, "2xx"), (404, "404"), (418, "418"), (499, "499"), (498, "4xx"),
        (511, "511"), (512, "5xx"), (599, "5xx"), (600, "6xx"), (999, "9xx"),
    ],
)  # fmt: skip
def test_a_status_counts_as_itself_or_its_class(status: int, name: str) -> None:
    assert name_of_status(counted_status(status)) == name


def test_what_an_answer_stands_for_is_the_same_by_its_class() -> None:
    for status in range(100, 1000):
        assert code_of_status(counted_status(status)) is code_of_status(status)
    assert code_of_status(9) is Code.UNKNOWN
