"""
Everything this package raises on purpose.

* GatewayError
    * ConfigError              the operator must fix a file
    * Refused                  we said no on purpose
        * Unauthenticated
        * AccessDenied
        * RateLimited
        * Draining             this instance is on its way out
    * ClientFault              the caller broke a rule of its protocol
        * BadRequest
        * NotFound
        * MethodNotAllowed
        * RequestTooLarge
        * HeadersTooLarge
        * UnsupportedMedia
        * RequestTimeout
    * UpstreamFault            the service behind us broke or went quiet
        * UpstreamUnavailable
        * UpstreamBroken
        * UpstreamTimeout
        * UpstreamProtocolError
    * RpcError                 the service behind us answered, and its answer is a gRPC error
        * RpcError.NotFound ...  one for each status
    * StoreFault               Valkey or Redis cannot be used
        * StoreUnavailable
        * StoreMisconfigured

How each looks on the wire is decided in one table, `edge/codes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self, TypeVar

from silence_gateway.rpc_details import details_in
from silence_gateway.rpc_words import Code, Said, TextPairs, WirePairs, as_text, code_of_number

T = TypeVar("T")


class GatewayError(Exception):
    """The root of every error that this package raises on purpose."""


class ConfigError(GatewayError):
    """
    The configuration cannot be used.

    Attributes:
        problems: Every problem found, one line each, `file:line:col: message` where a place is known.
    """

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class Refused(GatewayError):
    """We said no on purpose."""


class Unauthenticated(Refused):
    """
    The caller did not prove who it is.

    Attributes:
        challenge: How it could, in the form of WWW-Authenticate.
    """

    def __init__(self, message: str, challenge: str = "Bearer") -> None:
        super().__init__(message)
        self.challenge = challenge


class AccessDenied(Refused):
    """The caller is known, or its address is, and is not let in."""


class RateLimited(Refused):
    """
    The caller's budget is spent.

    Attributes:
        limits: Names of the limits that refused.
        retry_after_s: Seconds until the same request can succeed; None if it never can.
        headers: Header lines that tell the caller about its limits.
    """

    def __init__(
        self,
        limits: Sequence[str],
        retry_after_s: float | None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        names = ", ".join(limits)
        super().__init__(
            f"over the limit {names}; trying again never helps: blocked, or a cost above the whole limit"
            if retry_after_s is None
            else f"over the limit {names}; retry in {retry_after_s:.3f} s"
        )
        self.limits = tuple(limits)
        self.retry_after_s = retry_after_s
        self.headers = tuple(headers)


class Draining(Refused):
    """This instance is shutting down and takes no new work."""


class ClientFault(GatewayError):
    """The caller broke a rule of its protocol."""


class BadRequest(ClientFault):
    """The request cannot be understood; the text says what is wrong with it."""


class NotFound(ClientFault):
    """Nothing is served at this path."""


class MethodNotAllowed(ClientFault):
    """The path exists, the method does not."""

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"use {', '.join(allowed)}")
        self.allowed = tuple(allowed)


class RequestTooLarge(ClientFault):
    """The body is above the configured size."""


class HeadersTooLarge(ClientFault):
    """The request line or the headers are above the configured size."""


class UnsupportedMedia(ClientFault):
    """The body is of a media type that is not accepted here."""


class RequestTimeout(ClientFault):
    """The request did not arrive in time."""


class UpstreamFault(GatewayError):
    """
    The service behind us broke or went quiet.

    Attributes:
        sent: Whether the upstream may have seen the call. Only a call that was provably never sent
            may be tried again without asking whether it is idempotent.
        endpoint: Which address was called, once a pool has written the end of the call down.
    """

    endpoint = ""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class UpstreamUnavailable(UpstreamFault):
    """
    No endpoint could take the call, or the connection broke under it.

    Attributes:
        refused: The endpoint is there and turned this one call away unseen, as servers do that have
            as many as they can take.
        overloaded: Too many calls wait for the upstream already, so this one was not even offered to it.
        retry_after_s: Seconds after which it is worth trying again; None if that is not known.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: bool = True,
        refused: bool = False,
        overloaded: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, sent=sent)
        self.refused = refused
        self.overloaded = overloaded
        self.retry_after_s = retry_after_s


class UpstreamBroken(UpstreamFault):
    """The connection broke after the call was sent, and before all of its answer had come: of HTTP only."""


class UpstreamTimeout(UpstreamFault):
    """The deadline passed before the upstream answered."""


class UpstreamProtocolError(UpstreamFault):
    """The upstream answered something that is not the protocol it was said to speak."""


class RpcError(GatewayError):
    """
    The upstream answered with a gRPC error.

    Each status has a class of its own: `except RpcError.NotFound` catches that one alone. `code` and
    `details` may also be called, as those of grpcio's errors are.

    Attributes:
        code: The gRPC status; a number that cannot be one counts as UNKNOWN.
        details: The text of `grpc-message`, decoded.
        initial_metadata: Header pairs sent before the status.
        trailing_metadata: Header pairs sent with the status.
        status_details: The bytes of `grpc-status-details-bin` (google.rpc.Status), or empty.
        method: What was called, `shop.v1.Shop/GetItem`, if a `Channel` called it.
        upstream: The name of the upstream, likewise.
        endpoint: Which address was called, once a pool has written the end of the call down.
    """

    Cancelled: ClassVar[type[RpcError]]
    Unknown: ClassVar[type[RpcError]]
    InvalidArgument: ClassVar[type[RpcError]]
    DeadlineExceeded: ClassVar[type[RpcError]]
    NotFound: ClassVar[type[RpcError]]
    AlreadyExists: ClassVar[type[RpcError]]
    PermissionDenied: ClassVar[type[RpcError]]
    ResourceExhausted: ClassVar[type[RpcError]]
    FailedPrecondition: ClassVar[type[RpcError]]
    Aborted: ClassVar[type[RpcError]]
    OutOfRange: ClassVar[type[RpcError]]
    Unimplemented: ClassVar[type[RpcError]]
    Internal: ClassVar[type[RpcError]]
    Unavailable: ClassVar[type[RpcError]]
    DataLoss: ClassVar[type[RpcError]]
    Unauthenticated: ClassVar[type[RpcError]]

    method = ""
    upstream = ""
    endpoint = ""

    def __new__(cls, code: int, *_args: object, **_more: object) -> Self:
        """Make an error of the class of its status."""
        kind: Any = _OF_STATUS.get(code_of_number(code), cls) if cls is RpcError else cls
        made: Self = super().__new__(kind)
        return made

    def __init__(
        self,
        code: int,
        details: str = "",
        *,
        initial_metadata: WirePairs = (),
        trailing_metadata: WirePairs = (),
        status_details: bytes = b"",
    ) -> None:
        super().__init__(code, details)
        self.code: Code = code_of_number(code)
        self.details = Said(details)
        self.initial_metadata = initial_metadata
        self.trailing_metadata = trailing_metadata
        self.status_details = status_details

    def __str__(self) -> str:
        where = [self.method, self.endpoint and f"at {self.endpoint}"]
        where.append(self.upstream and f"of upstream {self.upstream!r}")
        place = " ".join(filter(None, where))
        text = f"{self.code.name}: {self.details}" if self.details else self.code.name
        return f"{text} ({place})" if place else text

    def __reduce__(self) -> tuple[type[RpcError], tuple[int, str], dict[str, Any]]:
        # The class follows from the code.
        kind = RpcError if type(self) in _OF_STATUS.values() else type(self)
        return kind, (int(self.code), str(self.details)), self.__dict__

    @property
    def metadata(self) -> TextPairs:
        """What came with the status, as people read it."""
        return as_text(self.trailing_metadata)

    def rich_details(self, kind: type[T]) -> list[T]:
        """
        Return the rich details of a type, `google.rpc.QuotaFailure` for example, that the upstream sent.

        *kind* is a message class of protobuf-py or google.protobuf.

        Raises:
            TypeError: It is none.
        """
        return details_in(self.status_details, kind)


def _class_of(code: Code) -> type[RpcError]:
    name = "".join(word.capitalize() for word in code.name.split("_"))
    words = {"__doc__": f"A call that ended with {code.name}.", "__module__": __name__}
    kind = type(name, (RpcError,), words | {"__qualname__": f"RpcError.{name}"})
    setattr(RpcError, name, kind)
    return kind


_OF_STATUS = {code: _class_of(code) for code in Code if code}


class StoreFault(GatewayError):
    """The shared store cannot be used."""


class StoreUnavailable(StoreFault):
    """
    No answer in time, or none at all; what was asked may or may not have happened.

    Attributes:
        sent: False if it has certainly not happened, because it never left.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class StoreMisconfigured(StoreFault):
    """The store answers, but refuses us: credentials, permissions or a missing feature."""
