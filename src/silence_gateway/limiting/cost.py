"""
What a request costs: a number, what one of its headers says, or what a header of its answer says.

A cost told by the answer is settled: some uses are reserved before the request passes, and when the
answer is there the difference is charged or given back. A charge may go beyond the limit; then the next
ones wait.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from silence_gateway.core.http import Request
from silence_gateway.errors import BadRequest

MAX_COST = 1_000_000
"""The most that one request may cost, whoever says so."""

NUMBER = re.compile(rb"0*([0-9]+)")
MAX_DIGITS = 18
"""What is longer is more than any cost; no header makes us work on longer numbers."""

METADATA_PREFIXES = (b"", b"grpc-trailer-", b"grpc-metadata-")
"""A header of the answer by its own name; else the same metadata of a gRPC upstream, the last word first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """
    How much a request spends of one limit.

    Attributes:
        amount: Uses; what is reserved where the answer tells, and what counts where nobody does.
        header: Lower-case name of the request header that tells, or empty.
        answer_header: Lower-case name of the answer's header, or metadata of a gRPC upstream, that
            tells; or empty.

    Raises:
        ValueError: The amount is out of range, or both headers are named.
    """

    amount: int = 1
    header: bytes = b""
    answer_header: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.amount <= MAX_COST:
            raise ValueError(f"a cost is 0 to {MAX_COST}, not {self.amount}")
        if self.header and self.answer_header:
            raise ValueError("a cost is told by the request or by the answer, not by both")

    def __str__(self) -> str:
        """How a configuration writes it."""
        if self.header:
            return f"header:{self.header.decode()}"
        return f"response header:{self.answer_header.decode()}" if self.answer_header else str(self.amount)

    @property
    def fixed(self) -> bool:
        """Whether every request costs the same."""
        return not self.header and not self.answer_header

    def of_request(self, request: Request) -> int:
        """
        Return what *request* spends, or reserves.

        Raises:
            BadRequest: The header that tells does not hold a number in range.
        """
        if not self.header:
            return self.amount
        told = request.headers.get(self.header)
        if told is None:
            return self.amount
        cost = number_of(told)
        if cost is None or cost > MAX_COST:
            name = self.header.decode("latin-1")
            raise BadRequest(f"the header {name} tells what this costs: a number from 0 to {MAX_COST}")
        return cost

    def of_answer(self, headers: Iterable[tuple[bytes, bytes]]) -> int | None:
        """
        Return what the answer says that the request has spent; None if it says nothing readable.

        More than MAX_COST counts as that.
        """
        told = {name.lower(): value for name, value in headers}
        for prefix in METADATA_PREFIXES:
            value = told.get(prefix + self.answer_header)
            if value is not None:
                cost = number_of(value)
                return None if cost is None else min(cost, MAX_COST)
        return None


ONE = Cost()
"""What a request costs where nobody says otherwise."""


def number_of(told: bytes) -> int | None:
    """Read a cost; None if it is no whole number."""
    found = NUMBER.fullmatch(told.strip())
    if found is None:
        return None
    return int(found[1]) if len(found[1]) <= MAX_DIGITS else 10**MAX_DIGITS
