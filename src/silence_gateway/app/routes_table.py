"""
What a configuration would serve, found out without serving: for `silence routes` and `silence explain`.

The upstreams are asked for their descriptors once, within a time limit; one that does not answer is
named and the rest goes on. Everything is decided by the same parts that serve real requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.engine_settings import limit_specs, upstream_settings
from silence_gateway.clock import Clock
from silence_gateway.core.path_template import DOUBLE_STAR, PathTemplate, TemplateError, parse_template
from silence_gateway.core.routing import ANY_METHOD
from silence_gateway.errors import GatewayError
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.transcoding.descriptors import DescriptorSource, FileSource
from silence_gateway.transcoding.reflection import ReflectionSource
from silence_gateway.transcoding.service import TranscodedService, reason_of
from silence_gateway.transcoding.table import RouteTable, Row
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream


@dataclass(frozen=True, slots=True)
class Described:
    """
    What the upstreams said of themselves.

    Attributes:
        services: One per upstream, without bindings where it did not answer.
        silent: Name and reason of each upstream that could not be read.
    """

    services: tuple[TranscodedService, ...]
    silent: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteLine:
    """
    One line of `silence routes`.

    Attributes:
        method: HTTP method; empty where a rule became no route.
        path: Template, or the rule as written where it cannot be used.
        upstream: Name of the upstream.
        rpc: `package.Service/Method`; empty where HTTP is passed on.
        rewrite: What takes the place of the beginning of the path where HTTP is passed on; empty if nothing.
        limits: Names of the limits that count it; `?` after those that count only some of its paths.
        problem: Why it is not served; empty if it is.
    """

    method: str
    path: str
    upstream: str
    rpc: str
    limits: tuple[str, ...]
    problem: str
    rewrite: str = ""


async def describe_upstreams(config: GatewayConfig, clock: Clock, timeout_s: float) -> Described:
    """
    Read the descriptors of every upstream, all at once, for *timeout_s* seconds at most.

    Raises:
        ConfigError: A TLS file cannot be used.
    """
    callers = {
        # Nobody is probed: one question each is all that happens.
        name: GrpcUpstream(replace(upstream_settings(name, upstream), health=None), clock=clock)
        for name, upstream in config.upstreams.items()
        if upstream.protocol == "grpc"
    }
    services = [
        TranscodedService(
            name,
            caller,
            _source(config.upstreams[name].descriptor_files, caller, clock, timeout_s),
            clock=clock,
            services=config.upstreams[name].services,
            repeatable=config.upstreams[name].retry.methods,
        )
        for name, caller in callers.items()
    ]
    try:
        await asyncio.gather(
            *(caller.start() for name, caller in callers.items() if config.upstreams[name].uses_reflection)
        )
        reasons = await asyncio.gather(*(_read(service, timeout_s) for service in services))
    finally:
        await asyncio.gather(*(caller.stop(0) for caller in callers.values()))
    silent = [(service.upstream, reason) for service, reason in zip(services, reasons, strict=True) if reason]
    return Described(tuple(services), tuple(silent))


def _source(
    files: Sequence[object], caller: GrpcUpstream, clock: Clock, timeout_s: float
) -> DescriptorSource:
    return FileSource([str(path) for path in files]) if files else ReflectionSource(caller, clock, timeout_s)


async def _read(service: TranscodedService, timeout_s: float) -> str:
    """Read once; returns why it failed, or nothing."""
    try:
        async with asyncio.timeout(timeout_s):
            await service.refresh()
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except GatewayError as exc:
        return reason_of(exc)
    return ""


def route_lines(config: GatewayConfig, services: Sequence[TranscodedService]) -> list[RouteLine]:
    """Return one line per route, with the limits that count it, and one per rule that became none."""
    specs = limit_specs(config)
    by_name = {
        f"/{binding.rpc}": binding for service in services for binding in service.bindings if binding.aliases
    }

    def limits_of(row: Row) -> tuple[str, ...]:
        ways = [(row.method, row.path)]
        if row.path in by_name:
            ways += by_name[row.path].aliases
        found = [name for method, path in ways for name in limits_on(specs, method, path, row.rpc)]
        # One that counts all of one way counts some of another perhaps; the stronger word stands.
        return tuple(
            name for name in dict.fromkeys(found) if name.removesuffix("?") == name or name[:-1] not in found
        )

    proxied = [
        RouteLine(
            method=method,
            path=route.match.path,
            upstream=route.upstream,
            rpc="",
            limits=limits_on(specs, method, route.match.path, ""),
            problem="",
            rewrite=route.rewrite or "",
        )
        for route in config.routes
        if route.upstream is not None and config.upstreams[route.upstream].protocol == "http"
        for method in route.match.methods or ("*",)
    ]
    return proxied + [
        RouteLine(
            method=row.method,
            path=row.path,
            upstream=row.upstream,
            rpc=row.rpc,
            limits=() if row.problem else limits_of(row),
            problem=row.problem,
        )
        for row in RouteTable.build(services).rows()
    ]


def limits_on(specs: Sequence[LimitSpec], method: str, path: str, rpc: str) -> tuple[str, ...]:
    """Return the limits that count requests to a route: all of them, or (with `?`) some."""
    try:
        template = parse_template(path)
    except TemplateError:
        return ()
    names = []
    for spec in specs:
        if spec.path is None:
            if spec.matches(method, [], rpc):
                names.append(spec.rule.name)
        elif not spec.methods or method in spec.methods or method == ANY_METHOD:
            overlap = _overlap(parse_template(spec.path), template)
            if overlap:
                all_of_it = overlap == "all" and not (method == ANY_METHOD and spec.methods)
                names.append(spec.rule.name + ("" if all_of_it else "?"))
    return tuple(names)


def _overlap(limit: PathTemplate, route: PathTemplate) -> str:
    """Return whether a limit's path covers `all`, `some` or (empty) none of a route's paths."""
    if limit.verb and limit.verb != route.verb:
        return ""
    covers = "all"
    theirs = route.segments
    for index, segment in enumerate(limit.segments):
        if segment.kind == DOUBLE_STAR:
            return covers
        if index >= len(theirs):
            return ""
        if theirs[index].kind == DOUBLE_STAR:
            return "some"
        if not segment.kind and theirs[index].kind:
            covers = "some"
        elif not segment.kind and segment.literal != theirs[index].literal:
            return ""
    if len(theirs) == len(limit.segments):
        return covers
    rest = theirs[len(limit.segments) :]
    return "some" if len(rest) == 1 and rest[0].kind == DOUBLE_STAR else ""
