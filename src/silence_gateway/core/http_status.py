"""
The names by which answers are counted.

A service may send any number from 100 to 999. Whoever counts by them must not grow by what others send, so
only those that HTTP knows stand for themselves, and all others for their class.
"""

from __future__ import annotations

from http import HTTPStatus

CLIENT_LEFT = 499
"""nginx's word for a caller that did not wait for its answer; in no register, but on many dashboards."""

KNOWN = frozenset({*map(int, HTTPStatus), CLIENT_LEFT})


def counted_status(status: int) -> int:
    """Return what *status*, 100 to 999, is counted as: itself, or its first digit if nobody knows it."""
    return status if status in KNOWN else status // 100


def name_of_status(counted: int) -> str:
    """Return the name of a `counted_status`: `404`, or `5xx`."""
    return str(counted) if counted >= 100 else f"{counted}xx"
