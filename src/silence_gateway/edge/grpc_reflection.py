"""
Server reflection, grpc.reflection.v1 and v1alpha: what is served, told from a FileDescriptorSet.

Both versions are the same messages under different names. They are few, so they are read and written here,
field by field; the other half, which asks, is `transcoding/reflection.py`. Everything is looked up in tables
that are made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files

from protobuf.wkt import FileDescriptorProto
from protobuf.wkt.google.protobuf.descriptor_pb import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
)

from silence_gateway.core.status import Code
from silence_gateway.edge.grpc_methods import Method
from silence_gateway.edge.grpc_streams import StreamCall, streaming
from silence_gateway.errors import BadRequest, ConfigError
from silence_gateway.transcoding.descriptors import BUNDLED
from silence_gateway.transcoding.wire import bytes_of, read_fields, text_of, write_bytes, write_varint

REFLECTION = "grpc.reflection.v1.ServerReflection"
REFLECTION_ALPHA = "grpc.reflection.v1alpha.ServerReflection"

# ServerReflectionRequest
HOST, FILE_BY_FILENAME, FILE_CONTAINING_SYMBOL, FILE_CONTAINING_EXTENSION, ALL_EXTENSIONS, LIST_SERVICES = (
    1, 3, 4, 5, 6, 7,
)  # fmt: skip
# ServerReflectionResponse
VALID_HOST, ORIGINAL_REQUEST, FILES_RESPONSE, EXTENSIONS_RESPONSE, SERVICES_RESPONSE, ERROR_RESPONSE = (
    1, 2, 4, 5, 6, 7,
)  # fmt: skip


def own_descriptors() -> bytes:
    """Return the FileDescriptorSet of health and reflection themselves."""
    return (files(__package__) / "protos" / "services.binpb").read_bytes()


class Reflection:
    """
    Answers questions about descriptors.

    Args:
        descriptor_sets: Serialised FileDescriptorSets; the first that has a file counts. Health and
            reflection are known without them, and so are the files of google/protobuf.
        services: The full names of what is served; reflection itself is added.

    Raises:
        ConfigError: A set cannot be read, or a service is in none of them.
    """

    def __init__(self, descriptor_sets: Iterable[bytes], services: Sequence[str]) -> None:
        self.raw: dict[str, bytes] = {}
        self.imports: dict[str, tuple[str, ...]] = {}
        self.file_of_symbol: dict[str, str] = {}
        self.file_of_extension: dict[tuple[str, int], str] = {}
        for descriptor_set in (*descriptor_sets, own_descriptors()):
            self.add(descriptor_set)
        for file in BUNDLED.values():
            self.add_file(file, file.to_binary())
        unknown = [name for name in services if name not in self.file_of_symbol]
        if unknown:
            raise ConfigError(f"reflection: no descriptor for {', '.join(unknown)}")
        self.services = sorted({*services, REFLECTION, REFLECTION_ALPHA})

    def methods(self) -> dict[str, Method]:
        """Return the methods for a server's table."""
        return {
            f"{service}/ServerReflectionInfo": streaming(self.answer_all)
            for service in (REFLECTION, REFLECTION_ALPHA)
        }

    # The tables.

    def add(self, descriptor_set: bytes) -> None:
        """
        Take in a set.

        Raises:
            ConfigError: It is not one.
        """
        try:
            for number, value in read_fields(descriptor_set):
                if number == 1:
                    raw = bytes_of(value)
                    self.add_file(FileDescriptorProto.from_binary(raw), raw)
        except ValueError as error:
            raise ConfigError(f"reflection: not a FileDescriptorSet: {error}") from error

    def add_file(self, file: FileDescriptorProto, raw: bytes) -> None:
        """Take in one file, unless there is one of that name."""
        if file.name in self.raw:
            return
        self.raw[file.name] = raw
        self.imports[file.name] = tuple(file.dependency)
        for symbol in symbols_of(file):
            self.file_of_symbol.setdefault(symbol, file.name)
        for extension in extensions_of(file):
            self.file_of_extension.setdefault((extension.extendee.lstrip("."), extension.number), file.name)

    # Answers.

    async def answer_all(self, call: StreamCall) -> None:
        """
        Answer every question, in order.

        Raises:
            BadRequest: One makes no sense.
        """
        async for question in call:
            try:
                answer = self.answer(question)
            except ValueError as error:
                raise BadRequest(f"not a ServerReflectionRequest: {error}") from error
            await call.send(answer)

    def answer(self, question: bytes) -> bytes:
        """
        Answer one question.

        Raises:
            ValueError: It makes no sense.
        """
        host, asked, about = b"", 0, b""
        for number, value in read_fields(question):
            if number == HOST:
                host = bytes_of(value)
            elif FILE_BY_FILENAME <= number <= LIST_SERVICES:
                asked, about = number, bytes_of(value)
        if asked == FILE_BY_FILENAME:
            name = text_of(about)
            found = self.files(name if name in self.raw else None, f"no file is called {name[:200]!r}")
        elif asked == FILE_CONTAINING_SYMBOL:
            name = text_of(about)
            found = self.files(self.file_of_symbol.get(name), f"nothing is called {name[:200]!r}")
        elif asked == FILE_CONTAINING_EXTENSION:
            found = self.extension(about)
        elif asked == ALL_EXTENSIONS:
            found = self.extension_numbers(text_of(about))
        elif asked == LIST_SERVICES:
            names = b"".join([write_bytes(1, write_bytes(1, name.encode())) for name in self.services])
            found = write_bytes(SERVICES_RESPONSE, names)
        else:
            found = refusal(Code.INVALID_ARGUMENT, "the request asks for nothing")
        return write_bytes(VALID_HOST, host) + write_bytes(ORIGINAL_REQUEST, question) + found

    def files(self, name: str | None, complaint: str) -> bytes:
        """Return a file with everything it needs, or *complaint* if there is none."""
        if name is None:
            return refusal(Code.NOT_FOUND, complaint)
        wanted = [name]
        for each in wanted:
            wanted += [path for path in self.imports[each] if path in self.raw and path not in wanted]
        return write_bytes(FILES_RESPONSE, b"".join([write_bytes(1, self.raw[each]) for each in wanted]))

    def extension(self, about: bytes) -> bytes:
        """Return the file that defines an extension."""
        fields = dict(read_fields(about))
        extended, number = text_of(fields.get(1, b"")), fields.get(2, 0)
        if not isinstance(number, int):
            raise ValueError("an extension number that is none")  # noqa: TRY004 - it is the data that is wrong
        return self.files(
            self.file_of_extension.get((extended, number)), f"{extended[:200]!r} has no extension {number}"
        )

    def extension_numbers(self, extended: str) -> bytes:
        """Return the numbers of all extensions of a message."""
        if extended not in self.file_of_symbol:
            return refusal(Code.NOT_FOUND, f"nothing is called {extended[:200]!r}")
        numbers = sorted(number for name, number in self.file_of_extension if name == extended)
        packed = b"".join([write_varint(number) for number in numbers])
        return write_bytes(
            EXTENSIONS_RESPONSE,
            write_bytes(1, extended.encode()) + (write_bytes(2, packed) if packed else b""),
        )


def refusal(code: Code, text: str) -> bytes:
    """Return the answer to a question that has none."""
    return write_bytes(ERROR_RESPONSE, b"\x08%c" % code + write_bytes(2, text.encode()))


def symbols_of(file: FileDescriptorProto) -> Iterator[str]:
    """Yield the full name of everything that a file defines."""
    prefix = f"{file.package}." if file.package else ""
    for message in file.message_type:
        yield from symbols_of_message(message, prefix)
    for enum in file.enum_type:
        yield from symbols_of_enum(enum, prefix)
    for extension in file.extension:
        yield prefix + extension.name
    for service in file.service:
        yield prefix + service.name
        for method in service.method:
            yield f"{prefix}{service.name}.{method.name}"


def symbols_of_message(message: DescriptorProto, prefix: str) -> Iterator[str]:
    """Yield the full name of a message and of everything inside it."""
    name = prefix + message.name
    yield name
    for field in (*message.field, *message.extension):
        yield f"{name}.{field.name}"
    for oneof in message.oneof_decl:
        yield f"{name}.{oneof.name}"
    for enum in message.enum_type:
        yield from symbols_of_enum(enum, f"{name}.")
    for inner in message.nested_type:
        yield from symbols_of_message(inner, f"{name}.")


def symbols_of_enum(enum: EnumDescriptorProto, prefix: str) -> Iterator[str]:
    """Yield the full name of an enum and of its values, which are named beside it and not inside."""
    yield prefix + enum.name
    for value in enum.value:
        yield prefix + value.name


def extensions_of(scope: FileDescriptorProto | DescriptorProto) -> Iterator[FieldDescriptorProto]:
    """Yield every extension defined in a file, or in a message."""
    yield from scope.extension
    inner = scope.message_type if isinstance(scope, FileDescriptorProto) else scope.nested_type
    for message in inner:
        yield from extensions_of(message)
