"""Lists of networks as people keep them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.cidr import Network
from silence_gateway.core.cidr_list import read_networks

LIST = """\ufeff# offices
10.0.0.0/8   # the old one
\t203.0.113.7\r

2001:db8::/32
10.0.0.1/8
  # nothing
example.com # a name
"""


def test_a_list_is_read_line_by_line_and_every_mistake_has_its_line() -> None:
    networks, problems = read_networks(LIST)

    assert [str(network) for network in networks] == ["10.0.0.0/8", "203.0.113.7/32", "2001:db8::/32"]
    assert [problem.line for problem in problems] == [6, 8]
    assert "did you mean 10.0.0.0/8" in problems[0].message
    assert "'example.com' is not an address" in problems[1].message


@given(st.lists(st.builds(lambda n: Network(32, n, 32), st.integers(0, 2**32 - 1))))
def test_what_was_written_is_read(networks: list[Network]) -> None:
    assert read_networks("\n".join(map(str, networks))) == (networks, [])


@given(st.text(max_size=200))
def test_any_text_is_a_list_or_has_problems_with_lines(text: str) -> None:
    networks, problems = read_networks(text)

    assert len(networks) + len(problems) <= text.count("\n") + 1
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in problems)
