"""
Waits and moments as people say them: `1m 1s`, `2026-01-01 12:00:00 UTC`.

Seconds are rounded up: whoever waits as told has waited for long enough.
"""

from __future__ import annotations

import datetime as dt

UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))

LAST_US = 253_402_300_799_000_000
"""The last second of the year 9999: what is later no clock shows."""


def wait_text(wait_us: int) -> str:
    """Return a wait in its two largest units: `59s`, `1m 1s`, `2d 5h`."""
    seconds = -(-max(0, wait_us) // 1_000_000)
    for index, (unit, size) in enumerate(UNITS):
        if seconds >= size:
            number, rest = divmod(seconds, size)
            smaller, smaller_size = UNITS[min(index + 1, len(UNITS) - 1)]
            second = rest // smaller_size
            return f"{number}{unit}" + (f" {second}{smaller}" if second else "")
    return "0s"


def moment_text(at_us: int) -> str:
    """Return a moment, in microseconds since the epoch, in UTC."""
    seconds = -(-min(max(0, at_us), LAST_US) // 1_000_000)
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
