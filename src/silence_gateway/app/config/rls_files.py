"""
The rules of the rate limit service from one file or a directory of them, as envoyproxy/ratelimit loads them.

`read_rules` is pure: names and bytes in, rules or everything that is wrong out. The rest is the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from silence_gateway.app.config import document
from silence_gateway.app.config.document import Broken, Place
from silence_gateway.app.config.kinds import closest
from silence_gateway.app.config.quantities import quoted
from silence_gateway.app.config.rls_file import FileReader, Said, twice
from silence_gateway.core.rls_rules import Branch, Level, RuleSet
from silence_gateway.errors import ConfigError

MAX_PROBLEMS = 100
ENDINGS = (".yaml", ".yml")

File: TypeAlias = tuple[Path, bytes]


class Domain:
    """A domain that is being put together: its outermost branches, and where each came from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.branches: dict[tuple[str, str], Branch] = {}
        self.origins: dict[tuple[str, str], tuple[Path, Place]] = {}
        self.names: set[str] = set()

    def add(self, path: Path, found: Sequence[tuple[Branch, Place]]) -> Iterator[Said]:
        """Add the branches of one file; returns what is wrong with that."""
        for branch, place in found:
            name = (branch.key, branch.value)
            if name in self.branches:
                other, first = self.origins[name]
                yield Said(place, twice(branch, "the domain", f"line {first.line} of {other}"))
            else:
                self.branches[name] = branch
                self.origins[name] = (path, place)


def read_rules(files: Sequence[File], *, merge_domains: bool = False) -> RuleSet:
    """
    Return the rules in *files*.

    Args:
        files: Path (for messages) and content of each.
        merge_domains: Whether several files may say something about one domain.

    Raises:
        ConfigError: With every problem there is, each as `file:line:col: message`.
    """
    domains: dict[str, Domain] = {}
    readers: list[tuple[Path, str, FileReader]] = []
    for path, data in files:
        reader = FileReader()
        try:
            root = document.parse(document.decode(data), aliases=True)
        except Broken as exc:
            reader.problem(exc.place, exc.message)
            readers.append((path, "", reader))
            continue
        name, place, branches = reader.root(root)
        readers.append((path, name, reader))
        domain = domains.setdefault(name, Domain(path))
        if domain.path != path and not merge_domains:
            if name:
                says = (
                    f"the domain {quoted(name)} is in {domain.path} already:"
                    " put it into one file, or set rls.merge_domains"
                )
                reader.problem(place, says)
            continue
        domain.names |= reader.names
        for said in domain.add(path, branches):
            reader.problem(said.place, said.text)
    problems = [line for path, _, reader in readers for line in lines_of(path, reader.problems)]
    if problems:
        more = len(problems) - MAX_PROBLEMS
        raise ConfigError(problems[:MAX_PROBLEMS] + ([f"and {more} more problems"] if more > 0 else []))
    for _, name, reader in readers:
        warn_of_strangers(reader, domains[name].names)
    return RuleSet(
        {name: Level(tuple(domain.branches.values())) for name, domain in domains.items()},
        tuple(line for path, _, reader in readers for line in lines_of(path, reader.warnings)),
    )


def warn_of_strangers(reader: FileReader, names: set[str]) -> None:
    """Warn of limits that replace what is not there."""
    for name, place in reader.replaces:
        if name not in names:
            hint = closest(name, sorted(names))
            reader.warn(place, f"no limit of this domain has the name {quoted(name)}{hint}")


def lines_of(path: Path, said: Sequence[Said]) -> list[str]:
    """Return the lines of a report about one file, in its order; what aliases share is reported once."""
    ordered = sorted(dict.fromkeys(said), key=lambda one: one.place)
    return [f"{path}:{one.place.line}:{one.place.column}: {one.text}" for one in ordered]


def load_rules(config: Path, *, merge_domains: bool = False) -> RuleSet:
    """
    Read the rules at *config* from disk: a file, or all files in a directory that end in .yaml or .yml.

    Raises:
        ConfigError: With every problem there is.
    """
    return read_rules([read_file(path) for path in rule_files(config)], merge_domains=merge_domains)


def rule_files(config: Path) -> list[Path]:
    """
    Return the files that *config* means; hidden ones are left out, in which container platforms keep copies.

    Raises:
        ConfigError: There are none.
    """
    try:
        if not config.is_dir():
            return [config]
        found = sorted(
            path for path in config.iterdir() if path.suffix in ENDINGS and not path.name.startswith(".")
        )
        found = [path for path in found if path.is_file()]
    except OSError as exc:
        raise ConfigError(f"{config} cannot be read: {exc.strerror or exc}") from exc
    if not found:
        raise ConfigError(f"{config} is a directory in which no file ends in {' or '.join(ENDINGS)}")
    return found


def read_file(path: Path) -> File:
    """
    Return one file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return path, file.read(document.MAX_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror or exc}") from exc


def fingerprint(config: Path) -> tuple[object, ...]:
    """Return what differs when a file at *config* may have changed, been added or gone; raises nothing."""
    try:
        stats = [(path, path.stat()) for path in rule_files(config)]
    except (OSError, ConfigError) as exc:
        return (str(exc),)
    return tuple((str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in stats)
