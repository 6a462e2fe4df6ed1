"""
One way to reach one gRPC method over HTTP: takes a request, makes the call, gives the answer.

A binding is made once from a rule, or from the name of a method, and then only read. What a request
turns into is the business of `request_plan.py`; what an answer turns into, of `answer_plan.py` and
`streaming.py`. Errors of the gateway itself pass through as exceptions; errors of the upstream become
google.rpc.Status JSON here.

Measured for a unary call with 6 fields and the usual headers: 10 us of one core from Request to the
bytes for the upstream and from its bytes to Response, the call itself not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from protobuf import DescMethod, Registry
from protobuf.wkt.google.protobuf.descriptor_pb import MethodOptions

from silence_gateway.clock import Clock
from silence_gateway.core.http import HeaderList, Request, Response, StreamingResponse
from silence_gateway.core.method_set import NO_METHODS, MethodSet
from silence_gateway.core.path_template import PathTemplate, parse_template
from silence_gateway.errors import RpcError
from silence_gateway.transcoding.answer_plan import AnswerPlan
from silence_gateway.transcoding.errors_as_json import JSON_TYPE, error_response, unimplemented
from silence_gateway.transcoding.headers import headers_of, metadata_of, timeout_of, wants_lines
from silence_gateway.transcoding.http_rules import HttpRule
from silence_gateway.transcoding.request_plan import STRICT, RequestPlan, Strictness
from silence_gateway.transcoding.streaming import ARRAY, LINES, RAW, BodyPieces, Form, Write
from silence_gateway.upstreams.contracts import Caller, Metadata

Kind = Literal["unary", "server_streaming", "client_streaming", "bidi_streaming"]

# RFC 9110, 9.2.1 and 9.2.2: these ask for nothing to change, so a gateway may repeat them by itself.
SAFE_METHODS = frozenset({"GET", "HEAD"})
IDEMPOTENT = frozenset(
    {MethodOptions.IdempotencyLevel.NO_SIDE_EFFECTS, MethodOptions.IdempotencyLevel.IDEMPOTENT}
)

LINES_TYPE = (b"content-type", b"application/x-ndjson")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """
    What all calls to one upstream have in common.

    Attributes:
        upstream: Its name.
        caller: What carries the calls.
        repeating: What carries those that may run twice; None if nothing is repeated.
        repeatable: Methods that may, whatever they say of themselves.
        caller_for: Returns what carries the call of one request, told whether it may run twice; None lets
            *caller* and *repeating* do it.
        clock: What deadlines are measured by.
        timeout_s: Seconds that a call may take where nothing says less; None for no bound.
        forwarded_headers: Lower-case names of further request headers to send as metadata.
        strictness: What to do with things a caller sends that lead nowhere.
    """

    upstream: str
    caller: Caller
    clock: Clock
    repeating: Caller | None = None
    repeatable: MethodSet = NO_METHODS
    timeout_s: float | None = None
    forwarded_headers: Collection[bytes] = ()
    strictness: Strictness = STRICT
    caller_for: Callable[[Request, bool], Caller] | None = None

    def carrier(self, request: Request, repeatable: bool) -> Caller:
        """Return what carries the call of *request*."""
        if self.caller_for is not None:
            return self.caller_for(request, repeatable)
        return self.repeating if repeatable and self.repeating is not None else self.caller


class Binding:
    """
    One way to reach one method.

    Attributes:
        route: Bounded name for metrics and logs: the path template, or `/package.Service/Method`.
        rpc: `package.Service/Method`.
        upstream: Name of the upstream that serves it.
        methods: HTTP methods it answers; `*` stands for all.
        template: The paths it answers.
        aliases: Of a method called by its name: its HTTP rules, as HTTP method and example path.
        kind: How the method streams.
        repeatable: Whether calls may run twice: by the HTTP method, by the option `idempotency_level`, or
            because the operator has named the method.
        refusal: Why calls are answered with UNIMPLEMENTED; empty if they are made.
    """

    __slots__ = (
        "aliases",
        "answer_plan",
        "call_path",
        "kind",
        "methods",
        "refusal",
        "registry",
        "repeatable",
        "request_plan",
        "route",
        "rpc",
        "settings",
        "template",
        "upstream",
    )

    def __init__(
        self, method: DescMethod, registry: Registry, settings: CallSettings, rule: HttpRule | None = None
    ) -> None:
        self.rpc = f"{method.parent.type_name}/{method.name}"
        self.call_path = f"/{self.rpc}".encode()
        self.upstream = settings.upstream
        self.kind: Kind = method.method_kind
        self.registry = registry
        self.settings = settings
        self.template: PathTemplate = parse_template(f"/{self.rpc}") if rule is None else rule.template
        self.route = self.template.text
        self.methods: tuple[str, ...] = ("POST",) if rule is None else (rule.verb,)
        self.aliases: tuple[tuple[str, str], ...] = ()
        safe = rule is not None and rule.verb in SAFE_METHODS
        self.repeatable = safe or method.idempotency in IDEMPOTENT or self.call_path in settings.repeatable
        self.request_plan = RequestPlan(method.input, registry, rule, settings.strictness)
        self.answer_plan = AnswerPlan(method.output, registry, None if rule is None else rule.response_field)
        self.refusal = ""
        if self.kind in {"client_streaming", "bidi_streaming"}:
            word = "client-streaming" if self.kind == "client_streaming" else "bidirectional streaming"
            self.refusal = (
                f"{self.rpc} is a {word} method; it takes many messages, which a JSON request cannot carry"
            )

    async def answer(
        self,
        request: Request,
        variables: tuple[str, ...] = (),
        deadline_s: float | None = None,
        repeatable: bool | None = None,
    ) -> Response:
        """
        Make the call that *request* asks for.

        Args:
            request: The request, with its whole body.
            variables: What the router captured, in the order of the template.
            deadline_s: Monotonic seconds after which nobody waits; `Grpc-Timeout` and the time-out of
                the upstream can only make it earlier.
            repeatable: Whether the call may run twice, if the operator has said so of the route; None for
                what holds of the method.

        Raises:
            BadRequest: The request does not fit the method.
            UnsupportedMedia: The body is not JSON.
            UpstreamFault: The upstream did not answer as it should.

        Cancelling it cancels the call.
        """
        if self.refusal:
            return unimplemented(self.refusal)
        message = self.request_plan.encode(request, variables)
        settings = self.settings
        metadata = metadata_of(request, settings.forwarded_headers)
        started_s = settings.clock.monotonic_s()
        deadline_s = earliest(request, started_s, settings.timeout_s, deadline_s)
        caller = settings.carrier(request, self.repeatable if repeatable is None else repeatable)
        if self.kind == "server_streaming":
            return await self.answer_stream(request, message, metadata, deadline_s, caller)
        try:
            reply = await caller.unary(self.call_path, message, metadata, deadline_s)
        except RpcError as error:
            return error_response(error, self.registry)
        finally:
            request.upstream_s += settings.clock.monotonic_s() - started_s
        headers: HeaderList = []
        if reply.initial_metadata or reply.trailing_metadata:
            headers = headers_of(reply.initial_metadata, reply.trailing_metadata)
        headers, body = self.answer_plan.unary(reply.message, headers)
        return Response(200, headers, body)

    async def answer_stream(
        self,
        request: Request,
        message: bytes,
        metadata: Metadata,
        deadline_s: float | None,
        caller: Caller,
    ) -> Response:
        """Make a call that is answered with a stream; return when the first message or the status is here."""
        settings, plan = self.settings, self.answer_plan
        started_s = settings.clock.monotonic_s()
        stream = caller.stream(self.call_path, message, metadata, deadline_s)
        try:
            messages = aiter(stream)
            first = await anext(messages, None)
            initial = await stream.initial_metadata()
            form, media, write = self.form_of(request)
            if first is None:
                headers = headers_of(initial, await stream.trailing_metadata())
                return Response(200, [media, *headers], form.empty)
            headers = headers_of(initial)
            if plan.raw:
                # One content type for the whole body: that of the first message.
                media = (b"content-type", plan.raw_of(first)[0])
            pieces = BodyPieces(stream, messages, write(first), write, form, self.registry)
            return StreamingResponse(200, [media, *headers], pieces)
        except RpcError as error:
            stream.cancel()
            return error_response(error, self.registry)
        except BaseException:
            # Also when the caller has left: nobody waits for this call any more.
            stream.cancel()
            raise
        finally:
            request.upstream_s += settings.clock.monotonic_s() - started_s

    def form_of(self, request: Request) -> tuple[Form, tuple[bytes, bytes], Write]:
        """Return how a stream of this binding is written for *request*, its content type and its writer."""
        plan = self.answer_plan
        if plan.raw:
            return RAW, (b"content-type", b"application/octet-stream"), lambda data: plan.raw_of(data)[1]
        if wants_lines(request.headers.get(b"accept", b"")):
            return LINES, LINES_TYPE, plan.json_of
        return ARRAY, JSON_TYPE, plan.json_of


def earliest(
    request: Request, now_s: float, timeout_s: float | None, deadline_s: float | None
) -> float | None:
    """
    Return the earliest of all deadlines; None if there is none.

    Raises:
        BadRequest: `Grpc-Timeout` cannot be read.
    """
    if timeout_s is not None and (deadline_s is None or now_s + timeout_s < deadline_s):
        deadline_s = now_s + timeout_s
    granted = request.headers.get(b"grpc-timeout")
    if granted is not None:
        asked_s = now_s + timeout_of(granted)
        if deadline_s is None or asked_s < deadline_s:
            deadline_s = asked_s
    return deadline_s
