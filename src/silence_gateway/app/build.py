"""
How a gateway is wired: the only file that names concrete classes for every part.

Order of the layers, from outside in: metrics and access log, errors as answers, who asks, which route,
allow and deny lists, tokens and API keys, limits, and then the route's own handler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from silence_gateway.app.call_steering import caller_for, steering_for
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.loaded import LoadedConfig
from silence_gateway.app.engine_settings import (
    limit_specs,
    proxy_settings,
    realtime_settings,
    route_rules,
    server_settings,
    upstream_settings,
)
from silence_gateway.app.gateway import Gateway
from silence_gateway.app.identity import access_lists, door
from silence_gateway.app.listening import describe_doors
from silence_gateway.app.register import Register
from silence_gateway.app.rls import RlsDoors
from silence_gateway.app.sources import sources_of
from silence_gateway.clock import Clock
from silence_gateway.core.client_address import ProxyWalker
from silence_gateway.core.http import Handler, Layer, stack
from silence_gateway.core.limit_headers import HeaderForm
from silence_gateway.edge.listen import server_tls
from silence_gateway.edge.problems import answer_errors
from silence_gateway.edge.server import HttpServer
from silence_gateway.events import Observer
from silence_gateway.layers.access import check_access
from silence_gateway.layers.identify import identify
from silence_gateway.layers.limit import limit_rate
from silence_gateway.layers.proxy import Exchanger, HttpProxy
from silence_gateway.layers.route import (
    FixedRoute,
    RouteMap,
    RouteSwitch,
    body_rule_of,
    find_route,
    serve_found,
)
from silence_gateway.limiting.assembly import LimitEngine, limit_engine
from silence_gateway.limiting.fleet_counts import FleetCounts
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.limiting.sweep import LimitSweep
from silence_gateway.realtime.endpoint import websocket_endpoint
from silence_gateway.realtime.hub import RealtimeHub
from silence_gateway.realtime.server_api import PREFIX, server_api
from silence_gateway.realtime.server_methods import METHODS
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.limit_stats_valkey import ValkeyLimitStats
from silence_gateway.stores.session_contract import SessionStore
from silence_gateway.stores.sessions_memory import MemorySessions
from silence_gateway.stores.sessions_valkey import ValkeySessions
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.transcoding.descriptors import DescriptorSource, FileSource
from silence_gateway.transcoding.reflection import ReflectionSource
from silence_gateway.transcoding.service import TranscodedService
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.http_upstream import HttpUpstream
from silence_gateway.upstreams.pool import Pool
from silence_gateway.watch.logs import LogWriter
from silence_gateway.watch.requests import AccessLog, RequestCounters, watch_requests

REFLECTION = ("reflection",)


def build(loaded: LoadedConfig, store: Store, clock: Clock, observer: Observer, log: LogWriter) -> Gateway:
    """
    Make the gateway that *loaded* describes; nothing is started.

    Raises:
        ConfigError: A file that it names cannot be used, or numbers do not go together.
    """
    config = loaded.config
    access = access_lists(config, store.board, clock, observer)
    asks = door(config, clock, observer)
    callers = {
        name: GrpcUpstream(
            upstream_settings(name, upstream, zone=config.zone or "", instance=store.instance_id),
            clock=clock,
            observer=observer,
            board=store.board,
            sources=sources_of(name, upstream, store, clock, observer),
        )
        for name, upstream in config.upstreams.items()
        if upstream.protocol == "grpc"
    }
    exchangers = {
        name: HttpUpstream(
            upstream_settings(name, upstream, zone=config.zone or "", instance=store.instance_id),
            clock=clock,
            observer=observer,
            board=store.board,
            sources=sources_of(name, upstream, store, clock, observer),
        )
        for name, upstream in config.upstreams.items()
        if upstream.protocol == "http"
    }
    proxies = proxies_of(config, exchangers, clock)
    pools: dict[str, Pool] = {**callers, **exchangers}
    hub = _hub(config, store, clock, observer)
    fixed = {} if hub is None else fixed_routes(hub)
    rules = route_rules(config)
    services: list[TranscodedService] = []
    switch = RouteSwitch(RouteMap.build([], fixed, rules, proxies))

    def routes_changed() -> None:
        switch.now = RouteMap.build(services, fixed, rules, proxies)

    services += [
        _service(config, name, upstream, clock, observer, routes_changed)
        for name, upstream in callers.items()
    ]
    routes_changed()
    counters = RequestCounters()
    form = config.telemetry.access_log
    access_log = None if form == "none" else AccessLog(log, clock, form)
    layers: list[Layer] = [
        watch_requests(counters, access_log, clock),
        answer_errors(observer),
        identify([str(network) for network in config.trusted_proxies]),
        find_route(switch),
        check_access(access),
    ]
    if asks is not None:
        layers.append(asks.layer)
    limits = _limits(config, store, clock, observer)
    if limits is not None:
        layers.append(limit_rate(limits.limiter))
    timeouts_s = {name: upstream.timeout_s for name, upstream in config.upstreams.items()}
    handler: Handler = stack(*layers)(serve_found(switch, timeouts_s, clock))
    tls = None
    if config.tls is not None:
        client_ca = config.tls.client_ca
        tls = server_tls(
            str(config.tls.certificate), str(config.tls.key), None if client_ca is None else str(client_ca)
        )
    server = HttpServer(handler, server_settings(config), clock, observer)
    if proxies:
        server.body_rule = body_rule_of(switch)
    if access_log is not None:
        server.on_refused = access_log.refused
    gateway = Gateway(
        clock=clock,
        observer=observer,
        store=store,
        server=server,
        tls=tls,
        counters=counters,
        access=access,
        key_file=None if asks is None else asks.key_file,
        drain_s=config.server.drain_s,
        upstreams={name: pools[name] for name in config.upstreams},
        services=services,
        routes=switch,
        hub=hub,
        rls=None if config.rls is None else RlsDoors(config, config.rls, store, clock, observer),
        register=Register(store, clock, listen=describe_doors(config), digest=loaded.digest),
    )
    if limits is not None:
        gateway.limiter, gateway.limit_engine = limits.limiter, limits.engine
        gateway.limit_counts, gateway.limit_sweep = limits.counts, limits.sweep
    return gateway


def proxies_of(
    config: GatewayConfig, upstreams: Mapping[str, Exchanger], clock: Clock
) -> dict[str, HttpProxy]:
    """Return what passes requests on to each of *upstreams*, which speak HTTP."""
    trusted = ProxyWalker([str(network) for network in config.trusted_proxies])
    return {
        name: HttpProxy(
            name,
            upstream,
            proxy_settings(config, config.upstreams[name]),
            trusted,
            clock,
            steering_for(config.upstreams[name]),
        )
        for name, upstream in upstreams.items()
    }


def _service(
    config: GatewayConfig,
    name: str,
    upstream: GrpcUpstream,
    clock: Clock,
    observer: Observer,
    changed: Callable[[], None],
) -> TranscodedService:
    told = config.upstreams[name]
    reflects = told.descriptors == REFLECTION
    source: DescriptorSource = ReflectionSource(upstream, clock) if reflects else FileSource(told.descriptors)
    service = TranscodedService(
        name,
        upstream.once,
        source,
        clock=clock,
        repeating=upstream.repeating,
        repeatable=told.retry.methods,
        services=told.services,
        observer=observer,
        changed=changed,
        caller_for=caller_for(upstream, told),
    )
    if reflects:
        # What comes back may have been deployed anew, with other methods.
        upstream.on_usable = lambda _address: service.reload()
    return service


class Limits(NamedTuple):
    """The parts of the limiting engine."""

    limiter: Limiter
    engine: LimitEngine
    counts: FleetCounts
    sweep: LimitSweep | None


def _limits(config: GatewayConfig, store: Store, clock: Clock, observer: Observer) -> Limits | None:
    specs = limit_specs(config)
    if not specs:
        return None
    stats = sweep = None
    if isinstance(store, ValkeyStore):
        stats = ValkeyLimitStats(store.general, config.name)
        sweep = LimitSweep(store, stats, clock, observer=observer)
    engine = limit_engine(store, config.name, clock, observer)
    limiter = Limiter(specs, engine.decider, engine.holds, HeaderForm(config.limit_headers))
    counts = FleetCounts(limiter.statistics, stats, clock, lambda: store.up, bus=store.bus)
    return Limits(limiter, engine, counts, sweep)


def _hub(config: GatewayConfig, store: Store, clock: Clock, observer: Observer) -> RealtimeHub | None:
    if config.realtime is None:
        return None
    sessions: SessionStore
    if isinstance(store, ValkeyStore):
        sessions = ValkeySessions(store.general, config.name, compress_over=store.settings.compress_over)
    else:
        sessions = MemorySessions(clock)
    return RealtimeHub(
        realtime_settings(config.realtime),
        sessions=sessions,
        bus=store.bus,
        board=store.board,
        instance_id=store.instance_id,
        clock=clock,
        observer=observer,
    )


def fixed_routes(hub: RealtimeHub) -> dict[str, FixedRoute]:
    """Return the paths that realtime serves: its WebSocket and its server API."""
    api = server_api(hub)
    return {
        hub.settings.path: FixedRoute(websocket_endpoint(hub), ("GET",)),
        **{f"{PREFIX}{method}": FixedRoute(api, ("POST",)) for method in METHODS},
    }
