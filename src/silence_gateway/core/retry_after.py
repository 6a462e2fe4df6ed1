"""
What an HTTP answer says about coming back (Retry-After, RFC 9110 section 10.2.3), in the words of retries.

A date is measured from the answer's own Date, so it does not matter what our clock says.
"""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime

from silence_gateway.core.retry import NEVER

MAX_DIGITS = 6  # eleven days in seconds, as much as a pushback may say
MAX_S = 10**MAX_DIGITS


def retry_after_ms(after: bytes, date: bytes | None) -> int:
    """
    Return after how many milliseconds a server wants to be asked again, or `NEVER`.

    Args:
        after: The value of its Retry-After.
        date: The value of its Date; None if it sent none.

    What cannot be read counts as `NEVER`, as with gRPC's pushback: a server that tries to say something does
    not want to be asked at will.
    """
    if after.isdigit():
        return int(after) * 1000 if len(after) <= MAX_DIGITS else NEVER
    then, now = _moment(after), None if date is None else _moment(date)
    if then is None or now is None:
        return NEVER
    wait_s = max(0, round((then - now).total_seconds()))
    return wait_s * 1000 if wait_s < MAX_S else NEVER


def _moment(value: bytes) -> datetime | None:
    """Return the moment that an HTTP date is about; None if it is none."""
    try:
        moment = parsedate_to_datetime(value.decode("ascii"))
    except (ValueError, OverflowError):
        return None
    # Without the zone, which is always GMT, it is no HTTP date and cannot be compared with one.
    return None if moment.tzinfo is None else moment
