"""
`${NAME}`, `${NAME:-default}` and `file:PATH` inside the values of the file.

Text is put in as text, after YAML was read, so no value from outside can add a key or change a type;
what is put in is never looked at again for more references. `$${` stands for `${`. A default is used
where the variable is not set or empty, as in a shell.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from silence_gateway.app.config.quantities import quoted

MAX_FILE_BYTES = 64 * 1024
FILE_PREFIX = "file:"

REFERENCE = re.compile(
    r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]{0,127})(?::-(?P<default>[^{}]*))?\}|(?P<odd>\$\{[^}]{0,80}\}?)"
)


@dataclass(frozen=True, slots=True)
class Filled:
    """
    A value with everything put in.

    Attributes:
        text: What the key's kind reads.
        variables: Names of the environment variables that are in it; empty if it was taken as written.
        file: The file it was read from, or empty.
    """

    text: str
    variables: tuple[str, ...] = ()
    file: str = ""


def fill(text: str, environment: Mapping[str, str], base: Path) -> Filled:
    """
    Put in what *text* refers to.

    Args:
        text: A value as the file has it.
        environment: Where `${NAME}` is looked up.
        base: Where a relative `file:` path starts.

    Raises:
        ValueError: If a variable is missing, a reference is malformed or a file cannot be read.
    """
    variables: list[str] = []

    def put_in(found: re.Match[str]) -> str:
        if found["odd"] is not None:
            raise ValueError(
                f"{quoted(found['odd'])} is not a reference: write ${{NAME}} or ${{NAME:-default}}, "
                "and $${ where ${ itself is meant"
            )
        name = found["name"]
        if name is None:
            return "${"
        value = environment.get(name)
        if found["default"] is not None and not value:
            variables.append(name)
            return found["default"]
        if value is None:
            raise ValueError(
                f"the environment variable {name} is not set: set it, or write ${{{name}:-default}}"
            )
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise ValueError(f"the environment variable {name} is not UTF-8 text")
        variables.append(name)
        return value

    filled = REFERENCE.sub(put_in, text) if "${" in text else text
    # Only a `file:` written in the file itself counts: what comes from outside is data.
    if text.startswith(FILE_PREFIX):
        path = filled.removeprefix(FILE_PREFIX)
        return Filled(_read(base / path, path), tuple(variables), path)
    return Filled(filled, tuple(variables))


def _read(path: Path, shown: str) -> str:
    if "\0" in shown:
        raise ValueError(f"{quoted(FILE_PREFIX + shown)} is not a path of a file")
    try:
        # Asked first: opening a pipe or a device could wait for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{FILE_PREFIX}{shown[:200]} is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ValueError(f"{FILE_PREFIX}{shown[:200]} cannot be read: {exc.strerror or exc}") from exc
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{FILE_PREFIX}{shown[:200]} is larger than {MAX_FILE_BYTES >> 10} KiB")
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise ValueError(f"{FILE_PREFIX}{shown[:200]} is not UTF-8 text") from exc
    # Editors and `echo` end a file with a newline that nobody means.
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
