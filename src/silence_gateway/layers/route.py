"""
Finds what serves a request, once, before anything is decided about it; and serves it at the end.

`find_route` is a layer near the outside: limits, metrics and logs speak of routes, so they come after.
`serve_found` is the innermost handler. What both know is a `RouteMap`: a snapshot that is replaced as a
whole when descriptors change, so that a request sees one state from beginning to end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from silence_gateway.clock import Clock
from silence_gateway.core.http import BodyRule, Handler, Layer, Request, Response
from silence_gateway.core.path_rewrite import PathRewrite
from silence_gateway.core.path_template import parse_template
from silence_gateway.core.routing import RouteBuilder, Routes
from silence_gateway.core.shedding import Importance
from silence_gateway.errors import BadRequest, GatewayError, MethodNotAllowed, NotFound, UpstreamUnavailable
from silence_gateway.transcoding.binding import Binding
from silence_gateway.transcoding.service import TranscodedService
from silence_gateway.transcoding.table import RouteTable

Aliases: TypeAlias = tuple[tuple[str, str], ...]
"""HTTP methods and paths that lead to a method as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRule:
    """
    What the configuration says about the requests to a path.

    Attributes:
        path: Path template, as in `google.api.http`.
        methods: HTTP methods; empty for all.
        upstream: Only this upstream's methods are meant; empty for all.
        timeout_s: Longest time a call may take, streams included; None for the upstream's own.
        auth: `none`, `optional`, `required`, or empty for what `auth:` says.
        idempotent: Whether calls may run twice; None for what the method says of itself.
        importance: Who goes first when the upstream has too much to do.
        rewrite: What an HTTP upstream is asked for instead; None for the path as it came.
    """

    path: str
    methods: tuple[str, ...] = ()
    upstream: str = ""
    timeout_s: float | None = None
    auth: str = ""
    idempotent: bool | None = None
    importance: Importance = Importance.NORMAL
    rewrite: PathRewrite | None = None


@dataclass(frozen=True, slots=True)
class FixedRoute:
    """A path of the gateway's own, served by *handler* whatever the upstreams say."""

    handler: Handler
    methods: tuple[str, ...]


class Proxied(Protocol):
    """
    An HTTP upstream that requests are passed on to.

    Attributes:
        upstream: Its name.
        body_rule: How the bodies of such requests are read.
    """

    upstream: str
    body_rule: BodyRule

    def answer(
        self,
        request: Request,
        deadline_s: float | None,
        repeatable: bool | None,
        rewrite: PathRewrite | None,
    ) -> Awaitable[Response]:
        """
        Pass *request* on and return what comes back.

        Args:
            request: What is asked.
            deadline_s: Monotonic seconds at which all of it must be over; None for the upstream's own.
            repeatable: Whether it may run twice; None for what its method says.
            rewrite: What is asked for there; None for what was asked for here.
        """


class Matched:
    """What routing found for one request. Made for every request, so a plain slots class."""

    __slots__ = ("binding", "fixed", "proxied", "rewrite", "rule", "variables")

    def __init__(
        self,
        binding: Binding | None,
        variables: tuple[str, ...],
        rule: RouteRule | None,
        fixed: FixedRoute | None = None,
        proxied: Proxied | None = None,
        rewrite: PathRewrite | None = None,
    ) -> None:
        self.binding = binding
        self.variables = variables
        self.rule = rule
        self.fixed = fixed
        self.proxied = proxied
        self.rewrite = rewrite


@dataclass(frozen=True, slots=True)
class RouteMap:
    """
    Everything that is served at one moment.

    Attributes:
        table: The methods of all upstreams.
        fixed: Paths of the gateway's own, exactly as they are asked for.
        rules: What the configuration says about paths; the most specific one counts.
        narrowed: Tables of single upstreams, for rules that name one.
        unknown: Upstreams whose methods have not been read yet: what is not found may be theirs.
        shared: Which rule of an HTTP upstream serves a path, in one tree with all methods, so that the most
            specific of both counts; where it finds None, that is a method. None without HTTP upstreams.
        proxies: HTTP upstreams by name.
        by_name: What `rule_by_name` found so far: at most one entry for each method.
    """

    table: RouteTable
    fixed: Mapping[str, FixedRoute] = field(default_factory=dict)
    rules: Routes[RouteRule] | None = None
    narrowed: Mapping[str, RouteTable] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    shared: Routes[RouteRule | None] | None = None
    proxies: Mapping[str, Proxied] = field(default_factory=dict)
    by_name: dict[Aliases, RouteRule | None] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        services: Sequence[TranscodedService],
        fixed: Mapping[str, FixedRoute] | None = None,
        rules: Sequence[RouteRule] = (),
        proxies: Mapping[str, Proxied] | None = None,
    ) -> RouteMap:
        """
        Make a snapshot of what *services* and *proxies* serve now.

        Of two rules for one path the first counts, and of a rule and a method of the same path the rule.
        """
        proxies = proxies or {}
        builder: RouteBuilder[RouteRule] = RouteBuilder()
        for rule in rules:
            for method in rule.methods or ("*",):
                builder.add(method, parse_template(rule.path), rule)
        wanted = {rule.upstream for rule in rules if rule.upstream and rule.upstream not in proxies}
        return cls(
            RouteTable.build(services),
            fixed or {},
            builder.build() if rules else None,
            {
                name: RouteTable.build([service for service in services if service.upstream == name])
                for name in wanted
            },
            tuple(service.upstream for service in services if service.descriptors is None),
            _shared(services, [rule for rule in rules if rule.upstream in proxies]) if proxies else None,
            proxies,
        )

    def passed_on(self, method: str, path: str) -> tuple[RouteRule, Proxied] | None:
        """
        Return the rule by which a request goes to an HTTP upstream, and that; None if it does not.

        Raises:
            BadRequest: The path cannot be decoded.
        """
        if self.shared is None:
            return None
        found = self.shared.find(method, path)
        if found is None or found.target is None:
            return None
        return found.target, self.proxies[found.target.upstream]

    def rule_by_name(self, aliases: Aliases) -> RouteRule | None:
        """Return what the configuration says about a method that is called by its name, and has *aliases*."""
        if self.rules is None:
            return None
        if aliases not in self.by_name:
            self.by_name[aliases] = _rule_of_aliases(self.rules, aliases)
        return self.by_name[aliases]

    def allowed(self, method: str, path: str) -> tuple[str, ...]:
        """
        Return the methods that *path*, which was not found with *method*, is served with.

        Raises:
            BadRequest: The path cannot be decoded.
        """
        allowed = self.table.allowed(path)
        if self.shared is None or self.rules is None:
            return allowed
        about = self.rules.find(method, path)
        if about is not None and about.target.upstream in self.narrowed:
            return allowed
        return tuple(sorted({*allowed, *self.shared.allowed(path)}))


def _shared(services: Sequence[TranscodedService], rules: Sequence[RouteRule]) -> Routes[RouteRule | None]:
    builder: RouteBuilder[RouteRule | None] = RouteBuilder()
    for rule in rules:
        for method in rule.methods or ("*",):
            builder.add(method, parse_template(rule.path), rule)
    for service in services:
        for binding in service.bindings:
            for method in binding.methods:
                builder.add(method, binding.template, None)
    return builder.build()


class RouteSwitch:
    """Holds the snapshot in force; whoever learns something new puts another one here."""

    __slots__ = ("now",)

    def __init__(self, now: RouteMap) -> None:
        self.now = now


def find_route(switch: RouteSwitch) -> Layer:
    """
    Find what serves a request and write it down: `matched`, `route` and `rpc`.

    A path that is not served passes on as well, with nothing matched, so that limits see it too.
    """

    def layer(inner: Handler) -> Handler:
        # No coroutine of its own: see `identify`.
        def handle(request: Request) -> Awaitable[Response]:
            routes = switch.now
            fixed = routes.fixed.get(request.path)
            if fixed is not None:
                request.matched = Matched(None, (), None, fixed)
                request.route = request.path
                return inner(request)
            rule = None
            table = routes.table
            if routes.rules is not None:
                about = routes.rules.find(request.method, request.path)
                if about is not None:
                    rule = about.target
                    to = rule.upstream
                    if to in routes.narrowed:
                        table = routes.narrowed[to]
                    elif (passed_on := routes.passed_on(request.method, request.path)) is not None:
                        # A more specific rule may say more about it, but the way there is this one's.
                        way, proxied = passed_on
                        request.route = way.path
                        request.importance = rule.importance
                        request.matched = Matched(None, (), rule, None, proxied, way.rewrite)
                        return inner(request)
            found = table.find(request.method, request.path)
            if found is not None:
                binding = found.binding
                request.route = binding.route
                request.rpc = binding.rpc
                if binding.aliases:
                    request.aliases = binding.aliases
                    if rule is None:
                        rule = routes.rule_by_name(binding.aliases)
                if rule is not None:
                    request.importance = rule.importance
                request.matched = Matched(binding, found.variables, rule)
            return inner(request)

        return handle

    return layer


def _rule_of_aliases(rules: Routes[RouteRule], aliases: Aliases) -> RouteRule | None:
    """
    Return what the configuration says about the paths of a method that was called by its name.

    Who calls it so could have meant any of them. So it may run twice where that is said of all of them, and
    may not where it is taken back for one.
    """
    first: RouteRule | None = None
    said: list[bool | None] = []
    for method, path in aliases:
        about = rules.find(method, path)
        said.append(None if about is None else about.target.idempotent)
        if first is None and about is not None:
            first = about.target
    idempotent = False if False in said else all(said) or None
    return first if first is None or first.idempotent is idempotent else replace(first, idempotent=idempotent)


def serve_found(switch: RouteSwitch, timeouts_s: Mapping[str, float], clock: Clock) -> Handler:
    """
    Serve what `find_route` found.

    *timeouts_s* are the upstreams' own. They bound unary calls; a stream lives as long as its caller
    wants, unless a rule says otherwise.

    The handler raises NotFound or MethodNotAllowed where nothing was found, and UpstreamUnavailable while
    an upstream's methods are not known yet.
    """
    monotonic_s = clock.monotonic_s

    def serve(request: Request) -> Awaitable[Response]:
        matched = request.matched
        if not isinstance(matched, Matched):
            raise _not_served(switch.now, request)
        binding = matched.binding
        if binding is not None:
            rule = matched.rule
            timeout_s = rule.timeout_s if rule is not None else None
            if timeout_s is None and binding.kind == "unary":
                timeout_s = timeouts_s.get(binding.upstream)
            deadline_s = None if timeout_s is None else monotonic_s() + timeout_s
            idempotent = None if rule is None else rule.idempotent
            return binding.answer(request, matched.variables, deadline_s, idempotent)
        if matched.proxied is not None:
            assert matched.rule is not None
            timeout_s = matched.rule.timeout_s
            deadline_s = None if timeout_s is None else monotonic_s() + timeout_s
            return matched.proxied.answer(request, deadline_s, matched.rule.idempotent, matched.rewrite)
        assert matched.fixed is not None
        if request.method not in matched.fixed.methods:
            raise MethodNotAllowed(matched.fixed.methods)
        return matched.fixed.handler(request)

    return serve


def body_rule_of(switch: RouteSwitch) -> Callable[[Request], BodyRule | None]:
    """Return what says of a request how its body is read: as it comes, where an HTTP upstream gets it."""

    def body_rule(request: Request) -> BodyRule | None:
        routes = switch.now
        if routes.rules is None or request.path in routes.fixed:
            return None
        try:
            about = routes.rules.find(request.method, request.path)
            if about is None or about.target.upstream in routes.narrowed:
                return None
            passed_on = routes.passed_on(request.method, request.path)
        except BadRequest:
            return None  # `find_route` will say so
        return None if passed_on is None else passed_on[1].body_rule

    return body_rule


def _not_served(routes: RouteMap, request: Request) -> GatewayError:
    allowed = routes.allowed(request.method, request.path)
    if allowed:
        return MethodNotAllowed(allowed)
    if routes.unknown:
        waited_for = ", ".join(routes.unknown)
        return UpstreamUnavailable(f"the methods of upstream {waited_for} are not known yet", sent=False)
    return NotFound(f"nothing is served at {request.path}")
