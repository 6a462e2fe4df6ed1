"""
Where the descriptors of an upstream come from, and making one registry of them.

A source gives serialised file descriptors in any order; `Descriptors.of` puts them in order, adds the
google/protobuf files that are missing, and names what cannot be resolved. Reading never happens on the
request path. Server reflection is in `reflection.py`; FileDescriptorSet files are read here.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from protobuf import DescService, Registry
from protobuf.wkt import (
    Any,
    Duration,
    Empty,
    FieldMask,
    FileDescriptorProto,
    FileDescriptorSet,
    Int64Value,
    Struct,
    Timestamp,
)
from protobuf.wkt.google.protobuf.api_pb import Api
from protobuf.wkt.google.protobuf.descriptor_pb import DescriptorProto, FieldDescriptorProto
from protobuf.wkt.google.protobuf.source_context_pb import SourceContext
from protobuf.wkt.google.protobuf.type_pb import Type

from silence_gateway.errors import ConfigError
from silence_gateway.transcoding.error_details import FILE_NAME, MESSAGES, PACKAGE, error_details_file

MAX_FILES = 5000
MAX_BYTES = 64 * 1024 * 1024

UNDERSCORES = re.compile(r"_+(.?)")
"""What separates the words of a field's name, and what comes after it."""

HIDDEN_PREFIXES = ("grpc.reflection.", "grpc.health.", "grpc.channelz.", "grpc.admin.")
"""Services about the server rather than of it; served only where they are asked for by name."""


class DescriptorsUnusable(ValueError):
    """Descriptors contradict each other or lack something; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDescriptors:
    """
    What a source found.

    Attributes:
        files: Serialised FileDescriptorProtos by file name.
        services: Names of the services that are offered; None for all that *files* define.
        missing: Services that are offered but whose descriptors could not be had, and why.
    """

    files: Mapping[str, bytes]
    services: tuple[str, ...] | None = None
    missing: tuple[tuple[str, str], ...] = ()

    def digest(self) -> str:
        """Return a name for this content: equal if and only if nothing has changed."""
        hashed = hashlib.sha256()
        for name, data in sorted(self.files.items()):
            hashed.update(b"%d:%s%d:" % (len(name.encode()), name.encode(), len(data)))
            hashed.update(data)
        hashed.update(repr((self.services, self.missing)).encode())
        return hashed.hexdigest()[:16]


class DescriptorSource(Protocol):
    """
    Somewhere descriptors come from.

    Attributes:
        remote: Whether the upstream gives them, so that waiting may help; otherwise the operator does.
    """

    remote: bool

    async def read(self) -> RawDescriptors:
        """
        Read everything anew.

        Raises:
            ConfigError: A file cannot be used; trying again helps only once somebody has changed it.
            GatewayError: It cannot be had at the moment.
        """

    def describe(self) -> str:
        """Return where this reads, for messages to the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    """
    The descriptors of an upstream, ready for use.

    Attributes:
        registry: All types.
        services: The services that are offered, in the order of their names.
        digest: Name of this content.
        missing: Services that are offered but cannot be served, and why.
    """

    registry: Registry
    services: tuple[DescService, ...]
    digest: str
    missing: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, raw: RawDescriptors, digest: str | None = None) -> Descriptors:
        """
        Make descriptors of what a source found.

        Raises:
            DescriptorsUnusable: The files contradict each other, or one is missing.
        """
        files = {name: parse_file(name, data) for name, data in raw.files.items()}
        add_error_details(files)
        registry = registry_of(files)
        missing = list(raw.missing)
        found: dict[str, DescService] = {}
        if raw.services is None:
            found = {entry.type_name: entry for entry in registry if isinstance(entry, DescService)}
        else:
            for name in raw.services:
                service = registry.service(name)
                if service is None:
                    missing.append((name, "no descriptor of this service was found"))
                else:
                    found[name] = service
        services = tuple(found[name] for name in sorted(found))
        return cls(
            registry=registry, services=services, digest=digest or raw.digest(), missing=tuple(missing)
        )


def parse_file(name: str, data: bytes) -> FileDescriptorProto:
    """
    Return the file in *data*, with the JSON names of all fields.

    Raises:
        DescriptorsUnusable: It is not a FileDescriptorProto.
    """
    try:
        file = FileDescriptorProto.from_binary(data)
    except (ValueError, TypeError, RecursionError) as error:
        raise DescriptorsUnusable(f"the descriptor of {name} cannot be read: {error}") from None
    add_json_names(file.extension, file.message_type)
    return file


def add_error_details(files: dict[str, FileDescriptorProto]) -> None:
    """Add the standard types of error details to *files*, if none of them is there under any file name."""
    for file in files.values():
        if file.package == PACKAGE and not MESSAGES.keys().isdisjoint(
            kind.name for kind in file.message_type
        ):
            return
    if FILE_NAME not in files:
        details = error_details_file()
        add_json_names([], details.message_type)
        files[FILE_NAME] = details


def add_json_names(fields: Iterable[FieldDescriptorProto], messages: Iterable[DescriptorProto]) -> None:
    """
    Give a JSON name to every field that has none.

    Compilers write them, but the code that they generate for Python, C++ and other languages leaves out
    those that follow from the name, and a server reflects what its generated code has.
    """
    waiting = list(messages)
    fields = list(fields)
    while waiting:
        message = waiting.pop()
        waiting.extend(message.nested_type)
        fields.extend(message.field)
        fields.extend(message.extension)
    for field in fields:
        if not field.json_name:
            field.json_name = UNDERSCORES.sub(lambda found: found[1].upper(), field.name)


def registry_of(files: Mapping[str, FileDescriptorProto]) -> Registry:
    """
    Return a registry of *files*.

    Raises:
        DescriptorsUnusable: A file imports itself, or needs one that is missing.
    """
    ordered, absent = in_order(files)
    try:
        return FileDescriptorSet(file=ordered).to_registry()
    except Exception as error:
        # Descriptors come from outside, and the library raises whatever it stumbles over.
        hint = f"; missing imports: {', '.join(sorted(absent)[:10])}" if absent else ""
        raise DescriptorsUnusable(f"the descriptors do not fit together: {error}{hint}") from error


def in_order(files: Mapping[str, FileDescriptorProto]) -> tuple[list[FileDescriptorProto], set[str]]:
    """
    Return *files* so that each comes after what it imports, and the names of imports that are missing.

    A missing google/protobuf file is added. Another missing import is taken out of the file: often it
    holds only options, such as google/api/annotations.proto, and nothing else needs it.

    Raises:
        DescriptorsUnusable: A file imports itself.
    """
    all_files = dict(files)
    ordered: list[FileDescriptorProto] = []
    absent: set[str] = set()
    state: dict[str, bool] = {}  # False while the imports of a file are being placed, True once it is placed
    waiting = sorted(files, reverse=True)
    while waiting:
        name = waiting[-1]
        if state.get(name):
            waiting.pop()
            continue
        file = all_files[name]
        wanted: list[str] = []
        for path in file.dependency:
            if path not in all_files:
                bundled = bundled_file(path)
                if bundled is None:
                    absent.add(path)
                    continue
                all_files[path] = bundled
            if path not in state:
                wanted.append(path)
            elif not state[path]:
                raise DescriptorsUnusable(f"{name} and {path} import each other")
        if wanted:
            state[name] = False
            waiting.extend(wanted)
            continue
        waiting.pop()
        state[name] = True
        ordered.append(without_imports(file, absent))
    return ordered, absent


def without_imports(file: FileDescriptorProto, absent: set[str]) -> FileDescriptorProto:
    """Return *file* without the imports in *absent*."""
    if absent.isdisjoint(file.dependency):
        return file
    copy = FileDescriptorProto.from_binary(file.to_binary())
    copy.dependency = [path for path in file.dependency if path not in absent]
    # These are indexes into the list that has just changed; a registry does not need them.
    copy.public_dependency = []
    copy.weak_dependency = []
    return copy


def bundled_file(path: str) -> FileDescriptorProto | None:
    """Return one of the google/protobuf files that come with the message library."""
    return BUNDLED.get(path)


BUNDLED: Mapping[str, FileDescriptorProto] = {
    kind.desc().file.name: kind.desc().file.proto
    for kind in (
        *(Any, Api, Duration, Empty, FieldMask, FileDescriptorProto),
        *(Int64Value, SourceContext, Struct, Timestamp, Type),
    )
}


class FileSource:
    """
    Descriptors from one or more FileDescriptorSet files (`protoc --include_imports --descriptor_set_out`).

    Args:
        paths: The files; they may overlap as long as they agree.
    """

    remote = False

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = tuple(Path(path) for path in paths)

    def describe(self) -> str:
        """Return the names of the files."""
        return ", ".join(str(path) for path in self.paths)

    async def read(self) -> RawDescriptors:
        """
        Read the files.

        Raises:
            ConfigError: One cannot be read, or is not a FileDescriptorSet, or contradicts another.
        """
        return await asyncio.to_thread(self.read_now)

    def read_now(self) -> RawDescriptors:
        """
        Read the files, blocking; all problems at once.

        Raises:
            ConfigError: As `read`.
        """
        files: dict[str, bytes] = {}
        problems: list[str] = []
        for path in self.paths:
            try:
                add_files(files, path)
            except DescriptorsUnusable as error:
                problems.append(f"{path}: {error}")
        if problems:
            raise ConfigError(problems)
        return RawDescriptors(files=files)


def add_files(files: dict[str, bytes], path: Path) -> None:
    """
    Add the files of the FileDescriptorSet at *path* to *files*.

    Raises:
        DescriptorsUnusable: It cannot be read, or contradicts what is there.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DescriptorsUnusable(f"{size} bytes; a descriptor set may have {MAX_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise DescriptorsUnusable(f"cannot be read: {error.strerror or error}") from None
    try:
        found = FileDescriptorSet.from_binary(data).file
    except (ValueError, TypeError, RecursionError):
        found = []
    if not found or not all(file.name for file in found):
        raise DescriptorsUnusable(
            "is not a FileDescriptorSet; make one with protoc --include_imports --descriptor_set_out=FILE"
        )
    for file in found:
        serialised = file.to_binary()
        if files.setdefault(file.name, serialised) != serialised:
            raise DescriptorsUnusable(f"has another {file.name} than a file before it")


class FixedSource:
    """
    Descriptors that the program already has.

    Args:
        descriptor_set: A serialised FileDescriptorSet.
    """

    remote = False

    def __init__(self, descriptor_set: bytes) -> None:
        self.descriptor_set = descriptor_set

    def describe(self) -> str:
        """Return that these come from the program."""
        return "a descriptor set given by the program"

    async def read(self) -> RawDescriptors:
        """
        Return the files of the set.

        Raises:
            ConfigError: It is not a FileDescriptorSet.
        """
        try:
            files = FileDescriptorSet.from_binary(self.descriptor_set).file
        except (ValueError, TypeError, RecursionError) as error:
            raise ConfigError(f"not a FileDescriptorSet: {error}") from error
        return RawDescriptors(files={file.name: file.to_binary() for file in files})
