"""
The file of API keys: read as strictly as the configuration, every problem with its place.

It is a file of its own because it changes more often, and because more of it is secret: nothing in it is
repeated in a message, not even where a value is wrong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import Field

from silence_gateway.app.config import document
from silence_gateway.app.config.document import Broken, Place
from silence_gateway.app.config.kinds import BASE, Kind, Name, Secret
from silence_gateway.app.config.quantities import quoted
from silence_gateway.app.config.reading import LEFT, Problem, Reader, Steps
from silence_gateway.app.config.section import Section
from silence_gateway.core.api_keys import MAX_KEY_BYTES, ApiKey, KeyRing
from silence_gateway.core.signed_tokens import MAX_USER_CHARS
from silence_gateway.errors import ConfigError

MAX_PROBLEMS = 100
MIN_KEY_CHARACTERS = 16
WEAK = (
    f"a key has {MIN_KEY_CHARACTERS} to {MAX_KEY_BYTES} visible ASCII characters, or it could be guessed or "
    "not be sent: openssl rand -hex 24 makes one"
)
EMPTY = "the file is empty: write keys: [] if no key is to be accepted"

DIGEST = re.compile(r"[0-9a-fA-F]{64}")
# What a header can carry without anybody changing it on the way: visible ASCII.
KEY_TEXT = re.compile(rf"[!-~]{{{MIN_KEY_CHARACTERS},{MAX_KEY_BYTES}}}")


def parse_digest(text: str) -> bytes:
    """
    Read a SHA-256.

    Raises:
        ValueError: It is none. The text is not repeated: it may be the key itself.
    """
    if not DIGEST.fullmatch(text):
        raise ValueError(
            'a sha256 has 64 hexadecimal digits: printf %s "$KEY" | sha256sum writes the one of a key'
        )
    return bytes.fromhex(text)


def parse_moment(text: str) -> int:
    """
    Read when something ends, in microseconds since the epoch: a date (UTC) or a moment with its zone.

    Raises:
        ValueError: It is neither.
    """
    wrong = f"{quoted(text)} is not a moment: write 2030-12-31 (its beginning, UTC) or 2030-12-31T18:00:00Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(wrong) from None
    if moment.tzinfo is None:
        if len(text) > len("2030-12-31"):
            raise ValueError(f"{quoted(text)} says no time zone: end it with Z for UTC")
        moment = moment.replace(tzinfo=UTC)
    if moment.year < 2000:
        raise ValueError(wrong)
    return round(moment.timestamp() * 1_000_000)


def parse_user(text: str) -> str:
    """
    Read a user's name, as a token could say it.

    Raises:
        ValueError: It is none.
    """
    if not 0 < len(text) <= MAX_USER_CHARS or not text.isprintable():
        raise ValueError(f"a user is a text of 1 to {MAX_USER_CHARS} characters that can be printed")
    return text


SHA256 = Kind("SHA-256", parse_digest, bytes.hex, {"type": "string"}, ("9f86d081...",), secret=True)
MOMENT = Kind("moment", parse_moment, str, {"type": "string"}, ("2030-12-31", "2030-12-31T18:00:00Z"))
USER = Kind("user", parse_user, str, {"type": "string"}, ("alice",))


class ApiKeyConfig(Section):
    """One key."""

    id: Name = Field(description="What logs show and limits count by.")
    sha256: Annotated[bytes, SHA256] | None = Field(default=None, description="SHA-256 of the key.")
    key: Secret = Field(default=None, description="The key itself, where its hash is not at hand.")
    user: Annotated[str, USER] | None = Field(default=None, description="Whom it speaks for.")
    expires_us: Annotated[int, MOMENT] | None = Field(
        default=None, alias="expires", description="From when on it is refused."
    )


class ApiKeysFile(Section):
    """The whole file."""

    keys: tuple[ApiKeyConfig, ...] = Field(description="The keys that are accepted.")


def read_key_file(path: Path, data: bytes, environment: Mapping[str, str] | None = None) -> KeyRing:
    """
    Return the keys that *data*, the bytes of the file at *path*, says.

    Args:
        path: Where paths in it start, and what messages name.
        data: Its bytes.
        environment: Where `${NAME}` is looked up; by default the process's environment.

    Raises:
        ConfigError: With every problem, each as `file:line:col: message`.
    """
    try:
        root = document.parse(document.decode(data))
        if root is None:
            raise Broken(Place(1, 1), EMPTY)
    except Broken as exc:
        raise ConfigError(f"{path}:{exc.place.line}:{exc.place.column}: {exc.message}") from None
    reader = Reader(os.environ if environment is None else environment, path.parent.absolute())
    values = reader.read_root(root, ApiKeysFile)
    reading = reader.reading
    problems = list(reading.problems)
    ring = KeyRing()
    if values is not LEFT:
        file = ApiKeysFile.model_validate(values, context={BASE: path.parent})
        keys, mistakes = checked_keys(file)
        ring = KeyRing(keys)
        # Of an entry with a value that was left out, nothing else is known for sure.
        spoiled = {steps[:2] for steps in reading.left_out}
        found = [(reading.original(at), says) for at, says in mistakes]
        problems += [Problem(reading.place_of(at), says) for at, says in found if at[:2] not in spoiled]
    if problems:
        problems.sort(key=lambda problem: problem.place)
        lines = [f"{path}:{place.line}:{place.column}: {says}" for place, says in map(parts, problems)]
        more = len(lines) - MAX_PROBLEMS
        raise ConfigError(lines[:MAX_PROBLEMS] + ([f"{path}: and {more} more problems"] if more > 0 else []))
    return ring


def parts(problem: Problem) -> tuple[Place, str]:
    """Return place and message."""
    return problem.place, problem.message


def checked_keys(file: ApiKeysFile) -> tuple[list[ApiKey], list[tuple[Steps, str]]]:
    """Return the keys, and everything about them that no single value shows."""
    keys: list[ApiKey] = []
    mistakes: list[tuple[Steps, str]] = []
    ids: set[str] = set()
    digests: dict[bytes, str] = {}
    for index, entry in enumerate(file.keys):
        at: Steps = ("keys", index)
        if entry.id in ids:
            mistakes.append(
                ((*at, "id"), f"another key has the id {quoted(entry.id)} already: ids are unique")
            )
        ids.add(entry.id)
        secret = entry.key.get_secret_value() if entry.key is not None else None
        if (entry.sha256 is None) == (secret is None):
            mistakes.append((at, f"{quoted(entry.id)}: write one of sha256 and key"))
            continue
        if secret is not None and not KEY_TEXT.fullmatch(secret):
            mistakes.append(((*at, "key"), WEAK))
            continue
        digest = entry.sha256 or sha256((secret or "").encode()).digest()
        first = digests.setdefault(digest, entry.id)
        if first != entry.id:
            mistakes.append((at, f"{quoted(entry.id)} has the same key as {quoted(first)}"))
        keys.append(ApiKey(id=entry.id, digest=digest, user=entry.user or "", until_us=entry.expires_us or 0))
    return keys, mistakes
