"""
Single values of a rules file: what envoyproxy/ratelimit's YAML library takes for a number, a flag or a unit.

The library is yaml.v2 of Go, which is close to YAML 1.1: `yes` is a flag, `1_000` a number. Where a text is
read in two ways by people and by YAML (`010`), it is refused with both readings.
"""

from __future__ import annotations

import re
from typing import Any

from silence_gateway.app.config.document import Mapping, Node, Scalar, Sequence
from silence_gateway.app.config.kinds import closest
from silence_gateway.app.config.quantities import did_you_mean, quoted
from silence_gateway.core.rls_rules import MAX_REQUESTS, Unit

NUMBER = re.compile(r"(?:0|[1-9][0-9_]{0,14})", re.ASCII)
HEX_NUMBER = re.compile(r"0x[0-9A-Fa-f]{1,12}", re.ASCII)
OCTAL_NUMBER = re.compile(r"0[0-7]{1,15}", re.ASCII)
REAL_NUMBER = re.compile(
    r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII
)
FLAGS = {
    form: flag
    for flag, words in ((True, ("y", "yes", "true", "on")), (False, ("n", "no", "false", "off")))
    for word in words
    for form in (word, word.capitalize(), word.upper())
}
UNITS = {unit.name.lower(): unit for unit in sorted(Unit)}
UNIT_WORDS = ("second", "minute", "hour", "day", "week", "month", "year")
UNIT_SLIPS = {"s": "second", "sec": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day"}


def parse_number(text: str, least: int, most: int = MAX_REQUESTS) -> int:
    """
    Return the whole number that *text* says.

    Raises:
        ValueError: It says none, or one that is out of range.
    """
    if OCTAL_NUMBER.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} begins with 0, which YAML reads as octal: write {int(text, 8)} or {int(text)}"
        )
    if HEX_NUMBER.fullmatch(text):
        number = int(text, 16)
    elif NUMBER.fullmatch(text):
        number = int(text.replace("_", ""))
    else:
        raise ValueError(f"{quoted(text)} is not a whole number: write {least} to {most}")
    if not least <= number <= most:
        raise ValueError(f"{quoted(text)} is out of range: write {least} to {most}")
    return number


def parse_flag(text: str) -> bool:
    """
    Return the flag that *text* says.

    Raises:
        ValueError: It says none.
    """
    flag = FLAGS.get(text)
    if flag is None:
        raise ValueError(f"{quoted(text)} is neither true nor false{closest(text, ['true', 'false'])}")
    return flag


def parse_unit(text: str) -> Unit:
    """
    Return the unit that *text* names, in letters of either case.

    Raises:
        ValueError: It names none.
    """
    lowered = text.lower()
    unit = UNITS.get(lowered)
    if unit is None:
        slip = UNIT_SLIPS.get(lowered)
        hint = did_you_mean(slip) if slip else closest(text, UNIT_WORDS)
        raise ValueError(f"{quoted(text)} is not a unit: choose from {', '.join(UNIT_WORDS)}{hint}")
    return unit


def json_value(node: Node) -> Any:
    """Return what *node* says as a JSON value; for `metadata`, whose form is its reader's business."""
    if isinstance(node, Mapping):
        return {key: json_value(part) for key, part in node.entries.items()}
    if isinstance(node, Sequence):
        return [json_value(part) for part in node.items]
    return scalar_value(node)


def scalar_value(scalar: Scalar) -> Any:
    """Return a single value: null, a flag, a number where it is one without doubt, else text."""
    text = scalar.text
    if text is None or scalar.quoted:
        return text
    if text in FLAGS:
        return FLAGS[text]
    if REAL_NUMBER.fullmatch(text) and not OCTAL_NUMBER.fullmatch(text):
        return float(text.replace("_", ""))
    return text
