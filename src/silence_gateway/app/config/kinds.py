"""
The kinds of single values that the file holds, as types for the models.

A kind joins four things that must agree: how a value is read, how it is written back, what the JSON
Schema says about it, and what the reference page calls it. The file gives every value as text, and
the kind alone decides what the text means, so `8080`, `"8080"` and `${PORT}` are read alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite, nan
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import GetCoreSchemaHandler, SecretStr, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from silence_gateway.app.config.quantities import (
    DURATION_PATTERN,
    HOST_PATTERN,
    SIZE_PATTERN,
    Address,
    Network,
    parse_address,
    parse_duration,
    parse_flag,
    parse_network,
    parse_ratio,
    parse_size,
    parse_whole,
    quoted,
    show_duration,
    show_network,
    show_size,
)

MASK = "***"

# The name of the directory that relative paths start from, in pydantic's validation context.
BASE = "base"


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """
    One kind of value.

    Attributes:
        name: What the reference page calls it.
        parse: Text to value; ValueError with a whole sentence.
        show: Value to what the file would say (text, number or boolean).
        json: What JSON Schema says about a value written without `${...}` or `file:`.
        examples: Values as the file writes them.
        secret: Whether the text may hold a password, so that no message repeats it; *show* masks it.
        place: Makes a path absolute, where the value is or holds one.
    """

    name: str
    parse: Callable[[str], Any]
    show: Callable[[Any], object]
    json: dict[str, Any]
    examples: tuple[str, ...] = ()
    secret: bool = False
    place: Callable[[Any, Path], Any] | None = None

    def check(self, value: object, info: ValidationInfo) -> Any:
        """Read *value* as the file gives it (text), or as a program gives it (also number or bool)."""
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, int | float):
            value = str(value)
        if not isinstance(value, str):
            raise ValueError(f"expected a {self.name}, such as {', '.join(self.examples)}")  # noqa: TRY004 - pydantic collects ValueError only
        read = self.parse(value)
        if self.place is not None and info.context and BASE in info.context:
            read = self.place(read, info.context[BASE])
        return read

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic read values of this kind through `check`, and dump them as `show` writes them."""
        return core_schema.with_info_plain_validator_function(
            # A dump would otherwise take values apart, passwords and all.
            self.check,
            serialization=core_schema.plain_serializer_function_ser_schema(self.show),
        )


def _same(value: Any) -> object:
    return value


def _bounded(
    kind: Kind, least: float | None, most: float | None, shown: Callable[[Any], object]
) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        value = kind.parse(text)
        if least is not None and value < least:
            raise ValueError(f"{quoted(text)} is too small: the least is {shown(least)}")
        if most is not None and value > most:
            raise ValueError(f"{quoted(text)} is too large: the most is {shown(most)}")
        return value

    return parse


def _range_text(least: object, most: object) -> str:
    if least is not None and most is not None:
        return f", {least} to {most}"
    if least is not None:
        return f", at least {least}"
    return f", at most {most}" if most is not None else ""


DURATION = Kind("duration", parse_duration, show_duration, {"type": "string", "pattern": DURATION_PATTERN},
                ("250ms", "5s", "1m", "24h"))  # fmt: skip
SIZE = Kind("size", parse_size, show_size, {"type": "string", "pattern": SIZE_PATTERN}, ("64KiB", "1MiB"))
WHOLE = Kind("whole number", parse_whole, _same, {"type": "integer", "minimum": 0}, ("1", "4"))
RATIO = Kind("share", parse_ratio, _same, {"type": "number", "exclusiveMinimum": 0, "maximum": 1}, ("0.5",))
FLAG = Kind("true or false", parse_flag, _same, {"type": "boolean"}, ("true", "false"))


def duration(least: str | None = None, most: str | None = None) -> Kind:
    """Return the kind of durations between *least* and *most*, both included."""
    bounds = [None if text is None else parse_duration(text) for text in (least, most)]
    return replace(
        DURATION,
        name=DURATION.name + _range_text(least, most),
        parse=_bounded(DURATION, bounds[0], bounds[1], show_duration),
    )


def size(least: str | None = None, most: str | None = None) -> Kind:
    """Return the kind of sizes between *least* and *most*, both included."""
    bounds = [None if text is None else parse_size(text) for text in (least, most)]
    return replace(
        SIZE, name=SIZE.name + _range_text(least, most), parse=_bounded(SIZE, bounds[0], bounds[1], show_size)
    )


def number(least: float, most: float) -> Kind:
    """Return the kind of numbers between *least* and *most*, both included."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = nan
        if not isfinite(value):
            raise ValueError(f"{quoted(text)} is not a number: write one from {least:g} to {most:g}")
        return value

    kind = Kind("number", read, _same, {"type": "number", "minimum": least, "maximum": most}, (f"{least:g}",))
    return replace(
        kind,
        name=kind.name + _range_text(f"{least:g}", f"{most:g}"),
        parse=_bounded(kind, least, most, lambda bound: f"{bound:g}"),
    )


def whole(least: int = 0, most: int | None = None) -> Kind:
    """Return the kind of whole numbers between *least* and *most*, both included."""
    json = WHOLE.json | {"minimum": least} | ({} if most is None else {"maximum": most})
    return replace(
        WHOLE,
        name=WHOLE.name + _range_text(least, most),
        parse=_bounded(WHOLE, least, most, _same),
        json=json,
        examples=(str(least or 1),),
    )


def choice(*words: str, slips: dict[str, str] | None = None) -> Kind:
    """
    Return the kind of value that is one of *words*.

    Args:
        words: What is accepted.
        slips: Other words, each with the whole message that answers it.
    """
    known = ", ".join(words)

    def parse(text: str) -> str:
        if text in words:
            return text
        if slips and text in slips:
            raise ValueError(slips[text])
        only = f"only {known} is accepted" if len(words) == 1 else f"choose from {known}"
        raise ValueError(f"{quoted(text)} is not known here: {only}{closest(text, words)}")

    return Kind(" \\| ".join(words), parse, _same, {"enum": list(words)}, words)


def closest(wrong: str, words: tuple[str, ...] | list[str]) -> str:
    """Return the ` (did you mean 'x'?)` that ends a message, or nothing if nothing is close."""
    import difflib

    near = difflib.get_close_matches(wrong[:100].lower(), [word.lower() for word in words], n=1, cutoff=0.6)
    for word in words:
        if near and word.lower() == near[0]:
            return f" (did you mean {quoted(word)}?)"
    return ""


def pattern(name: str, regex: str, example: str, rule: str) -> Kind:
    """Return the kind of text that matches *regex*; *rule* completes `... is not a NAME: `."""
    import re

    compiled = re.compile(regex)

    def parse(text: str) -> str:
        if compiled.fullmatch(text):
            return text
        article = "an" if name[0] in "aeioR" else "a"
        raise ValueError(f"{quoted(text)} is not {article} {name}: {rule}")

    return Kind(name, parse, _same, {"type": "string", "pattern": regex}, (example,))


def _parse_text(text: str) -> str:
    if not text:
        raise ValueError("the text is empty: write a value, or leave the key out")
    return text


TEXT = Kind("text", _parse_text, _same, {"type": "string"}, ("example",))
NAME = pattern(
    "name",
    r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
    "edge",
    "use letters, digits, '-', '_' and '.', 64 at most, and begin with a letter or digit",
)


def _parse_secret(text: str) -> SecretStr | None:
    return SecretStr(text) if text else None


SECRET = Kind("secret", _parse_secret, lambda value: MASK if value else None, {"type": "string"},
              ("${SECRET}",), secret=True)  # fmt: skip


def _place_address(address: Address, base: Path) -> Address:
    if not address.unix_path or address.unix_path.startswith("/"):
        return address
    # A socket path has to be short, so it stays relative where that is the same place.
    return Address(unix_path=str(base / address.unix_path))


LISTEN_ADDRESS = Kind(
    "address",
    parse_address,
    str,
    {"type": "string", "pattern": rf"(?:{HOST_PATTERN}|\[[0-9A-Fa-f:.]+\]):[0-9]{{1,5}}|unix:.+"},
    ("127.0.0.1:8080", "[::1]:8080", "unix:/run/gateway.sock"),
    place=_place_address,
)
ENDPOINT_ADDRESS = Kind(
    "address",
    lambda text: parse_address(text, any_port=False),
    str,
    {"type": "string", "pattern": rf"(?:{HOST_PATTERN}|\[[0-9A-Fa-f:.]+\]):[0-9]{{1,5}}|unix:.+"},
    ("127.0.0.1:9001", "[::1]:9001", "unix:/run/service.sock"),
    place=_place_address,
)
NETWORK = Kind("CIDR or address", parse_network, show_network, {"type": "string"},
               ("10.0.0.0/8", "2001:db8::/32", "203.0.113.7"))  # fmt: skip


def _parse_path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError(f"{quoted(text)} is not a path of a file")
    return Path(text)


FILE = Kind("path of a file", _parse_path, str, {"type": "string"}, ("cert.pem",),
            place=lambda path, base: base / path)  # fmt: skip


Seconds: TypeAlias = Annotated[float, DURATION]
Flag: TypeAlias = Annotated[bool, FLAG]
Text: TypeAlias = Annotated[str, TEXT]
Name: TypeAlias = Annotated[str, NAME]
Secret: TypeAlias = Annotated[SecretStr | None, SECRET]
ListenAddress: TypeAlias = Annotated[Address, LISTEN_ADDRESS]
EndpointAddress: TypeAlias = Annotated[Address, ENDPOINT_ADDRESS]
Networks: TypeAlias = tuple[Annotated[Network, NETWORK], ...]
FilePath: TypeAlias = Annotated[Path, FILE]
