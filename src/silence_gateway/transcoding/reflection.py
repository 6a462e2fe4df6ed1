"""
Descriptors by server reflection: grpc.reflection.v1, and v1alpha where a server has only that.

One bidirectional stream, one question at a time: which services are there, which file defines each,
and then every import that has not come along. Number, size and time are bounded, because an upstream
may answer anything. The messages are few, so they are read and written here, field by field.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from protobuf.wkt import FileDescriptorProto

from silence_gateway.clock import Clock
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamFault, UpstreamProtocolError
from silence_gateway.transcoding.descriptors import MAX_BYTES, MAX_FILES, RawDescriptors, bundled_file
from silence_gateway.transcoding.wire import bytes_of, read_fields, text_of, write_bytes
from silence_gateway.upstreams.contracts import Caller, CallStream

METHODS = (
    b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)

# ServerReflectionRequest
FILE_BY_FILENAME, FILE_CONTAINING_SYMBOL, LIST_SERVICES = 3, 4, 7
# ServerReflectionResponse
FILE_DESCRIPTOR_RESPONSE, LIST_SERVICES_RESPONSE, ERROR_RESPONSE = 4, 6, 7

MAX_SERVICES = 1000

GOODBYE_S = 1.0
"""How long a server may take to end the conversation; one that does not is left."""


class NotThere(Exception):
    """The server says that it does not have what was asked for."""


class ReflectionSource:
    """
    Descriptors that the upstream tells about itself.

    Args:
        caller: What carries the calls.
        clock: What the deadline is measured by.
        timeout_s: Seconds that reading everything may take.
    """

    remote = True

    def __init__(self, caller: Caller, clock: Clock, timeout_s: float = 10.0) -> None:
        self.caller = caller
        self.clock = clock
        self.timeout_s = timeout_s

    def describe(self) -> str:
        """Return that this is server reflection."""
        return "server reflection"

    async def read(self) -> RawDescriptors:
        """
        Ask the upstream for everything.

        Raises:
            RpcError: The upstream refused; UNIMPLEMENTED if it does not know reflection.
            UpstreamFault: It could not be asked, or answered something that makes no sense.
        """
        deadline_s = self.clock.monotonic_s() + self.timeout_s
        try:
            return await self.read_with(METHODS[0], deadline_s)
        except RpcError as error:
            if error.code != Code.UNIMPLEMENTED:
                raise
        return await self.read_with(METHODS[1], deadline_s)

    async def read_with(self, method: bytes, deadline_s: float) -> RawDescriptors:
        """Ask through one version of the protocol."""
        conversation = Conversation(self.caller, method, deadline_s)
        try:
            found = await conversation.everything()
            timer = self.clock.call_later(GOODBYE_S, conversation.close)
            try:
                await conversation.say_goodbye()
            finally:
                timer.cancel()
            return found
        except ValueError as error:
            raise UpstreamProtocolError(f"server reflection answered something else: {error}") from error
        finally:
            conversation.close()


class Conversation:
    """One reflection stream; must be closed."""

    def __init__(self, caller: Caller, method: bytes, deadline_s: float) -> None:
        self.questions: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.stream: CallStream = caller.stream(method, self.asked(), (), deadline_s)
        self.answers = aiter(self.stream)
        self.files: dict[str, bytes] = {}
        self.imports: dict[str, tuple[str, ...]] = {}
        self.size = 0

    async def asked(self) -> AsyncIterator[bytes]:
        """Yield questions as they are put, until there are no more."""
        while (question := await self.questions.get()) is not None:
            yield question

    async def say_goodbye(self) -> None:
        """
        Ask nothing more and hear the status, so that the call counts as the success that it was.

        Everything that was wanted is here, so whatever the server says now changes nothing.
        """
        self.questions.put_nowait(None)
        with contextlib.suppress(RpcError, UpstreamFault):
            await anext(self.answers, None)

    def close(self) -> None:
        """End the call."""
        self.stream.cancel()

    async def everything(self) -> RawDescriptors:
        """
        Return all files of all services.

        Raises:
            ValueError: An answer makes no sense, or there is too much.
        """
        services = await self.services()
        missing: list[tuple[str, str]] = []
        for service in services:
            try:
                self.take(await self.ask(FILE_CONTAINING_SYMBOL, service))
            except NotThere as error:
                missing.append((service, f"reflection lists it, but does not describe it: {error}"))
        # Some servers send a file with all its imports, some send it alone.
        refused: set[str] = set()
        while wanted := self.unknown_imports() - refused:
            for name in sorted(wanted):
                try:
                    self.take(await self.ask(FILE_BY_FILENAME, name))
                except NotThere:
                    refused.add(name)
                else:
                    if name not in self.files:
                        refused.add(name)
        lost = {name for name, _ in missing}
        known = tuple(sorted(service for service in services if service not in lost))
        return RawDescriptors(files=self.files, services=known, missing=tuple(missing))

    def unknown_imports(self) -> set[str]:
        """Return the names of imports that have not come, and that we do not have ourselves."""
        named = {path for paths in self.imports.values() for path in paths}
        return {path for path in named - self.files.keys() if bundled_file(path) is None}

    async def services(self) -> list[str]:
        """
        Return the names of all services.

        Raises:
            ValueError: The answer makes no sense.
        """
        answer = await self.ask_raw(write_bytes(LIST_SERVICES, b"*"))
        if LIST_SERVICES_RESPONSE not in answer:
            raise ValueError("no list of services")
        names: list[str] = []
        for number, entry in read_fields(answer[LIST_SERVICES_RESPONSE]):
            if number == 1:
                names += [text_of(value) for inner, value in read_fields(bytes_of(entry)) if inner == 1]
        if len(names) > MAX_SERVICES:
            raise ValueError(f"{len(names)} services; {MAX_SERVICES} are the most")
        return names

    async def ask(self, field: int, name: str) -> list[bytes]:
        """
        Return the files that answer a question.

        Raises:
            NotThere: The server does not have it.
            ValueError: The answer makes no sense.
        """
        answer = await self.ask_raw(write_bytes(field, name.encode()))
        if ERROR_RESPONSE in answer:
            error = dict(read_fields(answer[ERROR_RESPONSE]))
            code, reason = error.get(1, 0), text_of(error.get(2, b"no reason given"))[:200]
            raise NotThere(f"{reason} (code {code!r})")
        if FILE_DESCRIPTOR_RESPONSE not in answer:
            raise ValueError(f"no file for {name[:100]!r}")
        return [
            bytes_of(data) for number, data in read_fields(answer[FILE_DESCRIPTOR_RESPONSE]) if number == 1
        ]

    async def ask_raw(self, question: bytes) -> dict[int, bytes]:
        """
        Put one question and return the fields of its answer.

        Raises:
            ValueError: The server ended the conversation.
        """
        self.questions.put_nowait(question)
        try:
            answer = await anext(self.answers)
        except StopAsyncIteration:
            raise ValueError("the server ended the conversation before it answered") from None
        return {number: value for number, value in read_fields(answer) if isinstance(value, bytes)}

    def take(self, files: list[bytes]) -> None:
        """
        Keep *files*.

        Raises:
            ValueError: One cannot be read, or there is too much.
        """
        for data in files:
            file = FileDescriptorProto.from_binary(data)
            if file.name in self.files:
                continue
            self.size += len(data)
            if len(self.files) >= MAX_FILES or self.size > MAX_BYTES:
                raise ValueError(f"more than {MAX_FILES} files or {MAX_BYTES} bytes of descriptors")
            self.files[file.name] = data
            self.imports[file.name] = tuple(file.dependency)
