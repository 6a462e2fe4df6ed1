"""
Endpoints from a file that is followed: one address a line, for whoever writes files better than YAML.

    # three replicas, the last one for when the others are gone
    10.0.0.1:9001
    10.0.0.2:9001 weight=2
    10.0.9.1:9001 priority=1 zone=eu-2
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from silence_gateway.clock import Clock
from silence_gateway.errors import ConfigError
from silence_gateway.events import Observer
from silence_gateway.file_watch import FileWatch
from silence_gateway.upstreams.discovery import Use
from silence_gateway.upstreams.settings import EndpointSettings

MAX_FILE_BYTES = 1 << 20
MAX_DIGITS = 6
NUMBERS = ("weight", "priority")
ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def read_endpoints(path: Path, data: bytes) -> tuple[EndpointSettings, ...]:
    """
    Return the endpoints that a file names.

    Raises:
        ConfigError: With every problem. A file that names nobody is one: it is more likely half written
            than meant.
    """
    try:
        # Some editors begin a file with a mark that says how it is encoded.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    found: dict[str, EndpointSettings] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            endpoint = _endpoint(words)
        except ConfigError as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        if endpoint.address in found:
            problems.append(f"{path}:{number}: {endpoint.address} is here twice")
        found[endpoint.address] = endpoint
    if not found and not problems:
        problems.append(f"{path} names no endpoint")
    if problems:
        raise ConfigError(problems)
    return tuple(found.values())


def _endpoint(words: Sequence[str]) -> EndpointSettings:
    numbers, zone = {"weight": 1, "priority": 0}, ""
    for word in words[1:]:
        key, _, value = word.partition("=")
        if key == "zone" and ZONE.fullmatch(value):
            zone = value
        elif key in NUMBERS and value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS:
            numbers[key] = int(value)
        else:
            raise ConfigError(f"{word[:60]!r} is neither weight=NUMBER, priority=NUMBER nor zone=NAME")
    return EndpointSettings(
        address=words[0], weight=numbers["weight"], priority=numbers["priority"], zone=zone
    )


class FileSource:
    """
    A `discovery.Source` that reads a file and follows it.

    Raises:
        ConfigError: The file cannot be used now; later it keeps what it said before.
    """

    def __init__(self, path: Path, *, clock: Clock, observer: Observer) -> None:
        self._use: Use | None = None
        self._now: tuple[EndpointSettings, ...] = ()
        self._watch: FileWatch[tuple[EndpointSettings, ...], tuple[EndpointSettings, ...]] = FileWatch(
            [path],
            read=read_endpoints,
            join=_only,
            use=self._take,
            clock=clock,
            max_bytes=MAX_FILE_BYTES,
            observer=observer,
        )
        self._watch.load()

    @property
    def problem(self) -> str:
        """Why the file cannot be used as it is now; empty if it is in force."""
        return "; ".join(self._watch.problems)

    async def follow(self, use: Use) -> None:
        """Call *use* with what the file says, now and after every change, until cancelled."""
        self._use = use
        use(self._now)
        await self._watch.keep_looking()

    def hurry(self) -> None:
        """Nothing to hurry: the file is looked at every second."""

    def _take(self, endpoints: tuple[EndpointSettings, ...]) -> None:
        self._now = endpoints
        if self._use is not None:
            self._use(endpoints)


def _only(parts: Mapping[Path, tuple[EndpointSettings, ...]]) -> tuple[EndpointSettings, ...]:
    (endpoints,) = parts.values()
    return endpoints
