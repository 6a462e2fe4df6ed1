"""
Lists of networks as people keep them: one per line, `#` begins a comment.

Pure: text in, networks and problems out, each problem with its line.
"""

from __future__ import annotations

from typing import NamedTuple

from silence_gateway.core.cidr import Network, parse_cidr


class LineProblem(NamedTuple):
    """What is wrong with a line; lines are counted from 1, as editors do."""

    line: int
    message: str


def read_networks(text: str) -> tuple[list[Network], list[LineProblem]]:
    """Return the networks that *text* lists, in its order, and everything that is wrong with it."""
    networks: list[Network] = []
    problems: list[LineProblem] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        entry = line.partition("#")[0].strip()
        if entry:
            try:
                networks.append(parse_cidr(entry))
            except ValueError as exc:
                problems.append(LineProblem(number, str(exc)))
    return networks, problems
