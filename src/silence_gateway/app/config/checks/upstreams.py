"""Upstreams, the routes that lead to them, and the store's share of their time."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from silence_gateway.app.config.checks.finding import Context, Finding, Steps
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.kinds import NAME, closest
from silence_gateway.app.config.quantities import quoted, show_duration
from silence_gateway.app.config.upstreams import EndpointConfig, UpstreamConfig
from silence_gateway.upstreams.settings import PoolSettings

OF_AN_ADDRESS = frozenset({"weight", "priority", "zone"})
"""What DNS, a file or a registry says of its endpoints itself, where it can."""

OF_DNS = {"refresh_s": "refresh", "family": "family", "server": "server"}
"""What is only read with `dns`: the model's names, and those in the file."""


def check_something_to_serve(config: GatewayConfig, context: Context) -> Iterator[Finding]:
    """Find a config with which every request is answered 404."""
    if not context.upstreams and config.realtime is None and config.rls is None:
        yield Finding(
            at=(),
            says=(
                "there is nothing to serve: add upstreams, such as "
                "upstreams: {shop: {endpoints: [127.0.0.1:9001]}}, realtime or rls"
            ),
            about=(("upstreams",), ("realtime",), ("rls",)),
        )
    if config.server.max_body_bytes == 0:
        yield Finding(at=("server", "max_body"), says="no request may have a body with this", warning=True)


def check_upstreams(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find upstreams that cannot be called as written."""
    for name, upstream in config.upstreams.items():
        at: Steps = ("upstreams", name)
        try:
            NAME.parse(name)
        except ValueError as exc:
            yield Finding(at=at, says=str(exc))
        yield from check_endpoints(at, upstream, config)
        if not upstream.descriptors and upstream.protocol == "grpc":
            yield Finding(
                at=(*at, "descriptors"),
                says="the list is empty: write reflection, or name a file",
                about=((*at, "descriptors"),),
            )
        if upstream.uses_reflection and upstream.descriptor_files:
            yield Finding(
                at=(*at, "descriptors"),
                says="reflection and files do not go together: keep one of them",
                about=((*at, "descriptors"),),
            )
        health = upstream.health
        if health.timeout_s > health.interval_s:
            yield Finding(
                at=(*at, "health", "timeout"),
                says=(
                    f"a check may take {show_duration(health.timeout_s)} but the next begins after "
                    f"{show_duration(health.interval_s)}: make timeout the smaller one"
                ),
                about=((*at, "health", "interval"),),
            )
        most = upstream.pool.max_connections or PoolSettings().max_connections
        if upstream.protocol == "grpc" and upstream.pool.min_connections > most:
            yield Finding(
                at=(*at, "pool", "min_connections"),
                says=(
                    f"{upstream.pool.min_connections} connections are kept but at most "
                    f"{most} may be open: raise max_connections"
                ),
                about=((*at, "pool", "max_connections"),),
            )
        if upstream.tls is not None and (upstream.tls.certificate is None) != (upstream.tls.key is None):
            missing = "key" if upstream.tls.key is None else "certificate"
            yield Finding(
                at=(*at, "tls"),
                says=f"certificate and key belong together: {missing} is missing",
                about=((*at, "tls", missing),),
            )
        if config.store.deadline_s >= upstream.timeout_s:
            yield Finding(
                at=("store", "deadline"),
                says=(
                    f"waiting for the store may take {show_duration(config.store.deadline_s)}, which is all "
                    f"the time of calls to {quoted(name)} ({show_duration(upstream.timeout_s)}): "
                    "make it smaller"
                ),
                about=((*at, "timeout"),),
            )


def check_endpoints(at: Steps, upstream: UpstreamConfig, config: GatewayConfig) -> Iterator[Finding]:
    """Find endpoints that are missing or there twice."""
    if not upstream.endpoints:
        yield Finding(
            at=(*at, "endpoints"),
            says="the list is empty: write at least one address",
            about=((*at, "endpoints"),),
        )
    seen: set[str] = set()
    for index, endpoint in enumerate(upstream.endpoints):
        here: Steps = (*at, "endpoints", index)
        if len(endpoint.kinds) != 1:
            said = (
                f"only one of {' and '.join(endpoint.kinds)}"
                if endpoint.kinds
                else "where: one of address, dns, file and registry"
            )
            yield Finding(at=here, says=f"write {said}", about=(here,))
            continue
        if endpoint.dns is None:
            for field, key in OF_DNS.items():
                # Not what was set: a dump of a configuration has all defaults in it, and must read back.
                if getattr(endpoint, field) != EndpointConfig.model_fields[field].default:
                    yield Finding(
                        at=(*here, key),
                        says=f"{key} belongs to dns, and {endpoint.kinds[0]} does not read it: remove it",
                    )
        if endpoint.server is not None and not is_number(endpoint.server.host):
            yield Finding(
                at=(*here, "server"),
                says=(
                    f"{quoted(str(endpoint.server))} is a name, and who answers for names must be known "
                    "without one: write an address such as 10.0.0.2:53"
                ),
            )
        if endpoint.address is None:
            for key in sorted(endpoint.model_fields_set & OF_AN_ADDRESS):
                yield Finding(
                    at=(*here, key),
                    says=f"{key} belongs to an address, and not to what {endpoint.kinds[0]} finds: remove it",
                )
            scheme = config.store.url.scheme
            if endpoint.registry is not None and scheme != "valkey":
                # The embedded store is a socket in a directory of our own, a new one with each start.
                yield Finding(
                    at=(*here, "registry"),
                    says=f"nobody can register in {scheme}://: name a store that others reach",
                )
            continue
        address = str(endpoint.address)
        if address in seen:
            yield Finding(
                at=(*at, "endpoints", index, "address"),
                says=f"{quoted(address)} is here twice: remove one",
            )
        seen.add(address)


def is_number(host: str) -> bool:
    """Tell whether *host* is an IP address, so that nobody has to be asked where it is."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def check_routes(config: GatewayConfig, context: Context) -> Iterator[Finding]:
    """Find routes that lead nowhere or are never reached."""
    seen: dict[tuple[str, str | None], list[tuple[int, frozenset[str]]]] = {}
    for index, route in enumerate(config.routes):
        at: Steps = ("routes", index)
        if route.upstream is not None and route.upstream not in context.upstreams:
            known = sorted(context.upstreams)
            hint = closest(route.upstream, known) or (f": choose from {', '.join(known)}" if known else "")
            yield Finding(at=(*at, "upstream"), says=f"there is no upstream {quoted(route.upstream)}{hint}")
        if route.auth in {"required", "optional"} and config.auth is None:
            yield Finding(
                at=(*at, "auth"),
                says=f"auth: {route.auth} needs the section `auth`, which says how callers are verified",
                about=(("auth",),),
            )
        changes = (
            route.upstream,
            route.timeout_s,
            route.auth,
            route.idempotent,
            route.importance,
            route.rewrite,
        )
        if all(one is None for one in changes):
            yield Finding(
                at=at,
                says=(
                    "this route changes nothing: give it upstream, timeout, auth, idempotent, importance "
                    "or rewrite"
                ),
                about=(at,),
            )
        methods = frozenset(route.match.methods)
        earlier = seen.setdefault((route.match.path, route.upstream), [])
        hidden_by = next((i for i, theirs in earlier if not theirs or (methods and methods <= theirs)), None)
        if hidden_by is not None:
            yield Finding(
                at=(*at, "match"),
                says="this route is never reached: an earlier one matches the same requests",
                about=(("routes", hidden_by), at),
            )
        earlier.append((index, methods))
