"""Numbers as a person reads them at a glance: short, with their unit, and a dash for what is not there."""

from __future__ import annotations

from typing import Any

DASH = "-"


def count(value: Any) -> str:
    """Return a whole number in at most five characters: 950, 12.3k, 4.56M."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return DASH
    if abs(value) < 10_000:
        return str(round(value))
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{three_digits(value / size)}{unit}"
    return str(round(value))


def counted(value: Any, noun: str) -> str:
    """Return how many of something there are: 1 stream, 2 streams."""
    return f"{count(value)} {noun}" if value == 1 else f"{count(value)} {noun}s"


def size(value: Any) -> str:
    """Return a number of bytes in powers of 1024: 512 B, 1.21 MiB."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return DASH
    number, unit = float(value), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(number) < 1000:
            break
        number, unit = number / 1024, larger
    return f"{number:.0f} B" if unit == "B" else f"{three_digits(number)} {unit}"


def duration(seconds: Any) -> str:
    """Return how long something took: 85us, 1.2ms, 450ms, 2.5s, 12m."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return DASH
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f}us"
    if seconds < 0.9995:
        return f"{two_digits(seconds * 1e3)}ms"
    return f"{two_digits(seconds)}s" if seconds < 119.5 else f"{seconds / 60:.0f}m"


def span(seconds: float) -> str:
    """Return a time that goes by in its largest unit, such as until when or since when: 12s, 3m, 4h, 2d."""
    whole = max(0, int(seconds))
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if whole >= 2 * length:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def share(part: Any, whole: Any) -> str:
    """Return a part of a whole in percent; a dash of nothing, and never 0 for what is not nothing."""
    if not isinstance(part, int) or not isinstance(whole, int) or whole <= 0:
        return DASH
    if 0 < part < whole * 0.0005:
        return "<0.1%"
    percent = 100 * part / whole
    return f"{percent:.0f}%" if percent >= 9.95 or not part else f"{percent:.1f}%"


def two_digits(value: float) -> str:
    """Return *value* with one decimal below ten and none above."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def three_digits(value: float) -> str:
    """Return *value* with three digits that count."""
    if abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 or value == int(value) else f"{value:.2f}"
