"""
The lists that only files change: those of the configuration, and the list files that it names.

What all files say together is one set of networks, made in a thread and put into force in one step.
With 100,000 networks reading them anew takes 0.4 s of that thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from silence_gateway.clock import Clock
from silence_gateway.core.cidr import CidrSet, Network, parse_cidr
from silence_gateway.core.cidr_list import read_networks
from silence_gateway.errors import ConfigError
from silence_gateway.events import Observer, nobody
from silence_gateway.file_watch import FileWatch
from silence_gateway.limiting.access_entry import ALLOW, DENY

MAX_LIST_BYTES = 16 << 20
"""About a million addresses; a longer list is not one that somebody keeps by hand or by script."""

MAX_PROBLEMS = 100
"""Problems told of one file; after that, its reader has better things to do than to read on."""


def read_list_file(path: Path, data: bytes) -> list[Network]:
    """
    Read one list file.

    Raises:
        ConfigError: With every problem, each as `file:line: message`.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{path}:{line}: byte 0x{data[exc.start]:02x} is not UTF-8") from None
    networks, problems = read_networks(text)
    if problems:
        lines = [f"{path}:{line}: {message}" for line, message in problems[:MAX_PROBLEMS]]
        if len(problems) > MAX_PROBLEMS:
            lines.append(f"{path}: and {len(problems) - MAX_PROBLEMS} more problems")
        raise ConfigError(lines)
    return networks


class FixedLists:
    """
    The part of the access lists that no API changes.

    Attributes:
        networks: All of them, marked with the lists that they are on.

    Raises:
        ConfigError: A list file cannot be used.
        ValueError: A network of the configuration cannot be read.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        allow_files: Sequence[Path] = (),
        deny_files: Sequence[Path] = (),
        observer: Observer = nobody,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.allow = list(map(parse_cidr, allow))
        self.deny = list(map(parse_cidr, deny))
        self.allow_files = frozenset(allow_files)
        self.deny_files = frozenset(deny_files)
        self.networks = CidrSet()
        self.changed = changed
        self.watch = FileWatch(
            [*allow_files, *deny_files],
            read=read_list_file,
            join=self.joined,
            use=self.use,
            clock=clock,
            max_bytes=MAX_LIST_BYTES,
            observer=observer,
        )
        self.watch.load()

    def joined(self, files: Mapping[Path, Sequence[Network]]) -> CidrSet:
        """Make one set of the configuration's networks and those of the files."""
        found = CidrSet(self.allow, ALLOW)
        for network in self.deny:
            found.add(network, DENY)
        for path, networks in files.items():
            marks = (ALLOW if path in self.allow_files else 0) | (DENY if path in self.deny_files else 0)
            for network in networks:
                found.add(network, marks)
        return found

    def use(self, networks: CidrSet) -> None:
        """Put a new set into force."""
        self.networks = networks
        self.changed()
