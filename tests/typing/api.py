"""Never run: it must type-check. What a user of the library writes has the types that it looks like."""

from collections.abc import Awaitable, Callable, Sequence

from protobuf.wkt.google.protobuf.wrappers_pb import Int64Value, StringValue

from silence_gateway import (
    Channel,
    Code,
    Decision,
    GrpcConnection,
    GrpcUpstream,
    Interceptor,
    Limit,
    LimitDependency,
    LimitMiddleware,
    MessageLimit,
    OutgoingCall,
    RateLimiter,
    RealtimeSettings,
    RouteLimit,
    RpcError,
    ServiceClient,
    SessionHub,
    Spent,
    StoreSettings,
    UpstreamSettings,
    ValkeyStore,
    connect,
    limited,
)


async def limits() -> None:
    async with RateLimiter("memory://", fleet="shop") as limiter:
        login: Limit = limiter.limit("login", "10/minute")
        decision: Decision = await login.acquire("alice", cost=2)
        left: int = decision.remaining
        both: Sequence[Decision] = await limiter.acquire_all([(login, "alice", 1), (login, "bob", left)])
        assert both
        waited: Decision = await login.acquire("bob", wait=True, timeout_s=1.5)
        await login.charge("bob", 2, waited)
        await login.give_back("bob", 1, waited)
        busy: Limit = limiter.limit(
            "busy", "1000/s", algorithm="sliding_counter", lease=50, when_down="local_full"
        )
        quota: Limit = limiter.limit("quota", "900/month", algorithm="fixed_window", align="calendar")
        jail: Limit = limiter.limit("jail", "5/minute", block_for_s=600)
        forgotten: bool = await jail.reset("bob")
        assert busy is not quota
        assert forgotten
        reports: Limit = limiter.concurrency("reports", 3, ttl_s=10)
        async with reports.hold("acme", wait=True, timeout_s=5) as place:
            more: int = place.remaining
            assert more


reports = LimitDependency("5/hour", name="reports", key=["user", lambda scope: scope["path"]])


@limited("5/minute", "1/s", key="user", exempt=lambda scope: scope["path"] == "/health")
async def search(words: str, most: int = 3) -> list[str]:
    spent: Spent = await reports()
    spent.settle(spent.decision.remaining)
    return [words] * most


@limited(RouteLimit("5/minute", cost=lambda scope: len(scope["path"])))
def shout(word: str) -> str:
    return word.upper()


async def routes() -> None:
    found: list[str] = await search("a", most=2)
    loud: str = await shout(word="a")
    assert found != [loud]


async def any_app(_scope: object, _receive: object, _send: object) -> None: ...


async def limits_in_apps() -> None:
    limiter = RateLimiter("valkey://127.0.0.1:6379/0", fleet="shop")
    around: LimitMiddleware = LimitMiddleware(
        any_app,
        limiter=limiter,
        limits=[
            RouteLimit(limiter.concurrency("open", 3), path="/chat", methods=["WEBSOCKET"]),
            RouteLimit("100/minute", key="header:X-Tenant", settle_by="X-Tokens"),
            MessageLimit("10/s", key="connection", cost=len, on_excess="wait", max_wait_s=5),
        ],
        trusted_proxies=["10.0.0.0/8"],
        headers="both",
    )
    await LimitMiddleware(around, limiter="memory://")({}, None, None)


async def upstreams() -> None:
    async with GrpcUpstream(UpstreamSettings.of("127.0.0.1:9001", timeout_s=1.0)) as upstream:
        channel: Channel = Channel(upstream)
        answer: bytes = await channel.unary_unary("/a.B/C", bytes, bytes)(b"", timeout=1.0)
        assert answer
        reply = await upstream.unary(b"/a.B/C", b"")
        message: bytes = reply.message
        assert message
        told = upstream.statistics
        slow: list[str] = [one.address for one in told.endpoints if (one.latency.quantiles_s[2] or 0) > 0.5]
        assert not slow
        everybody_knows: bool = await upstream.reset_statistics()
        codes: dict[str, int] = upstream.statistics_since_reset.endpoints[0].codes
        assert everybody_knows
        assert not codes
    connection: GrpcConnection = await connect("127.0.0.1:9001")
    await connection.close(graceful=True)


Proceed = Callable[[OutgoingCall], Awaitable[object]]


class Timed(Interceptor):
    async def unary_unary(self, call: OutgoingCall, proceed: Proceed) -> object:
        call.timeout = 1.0
        return await proceed(call)


class Shop(ServiceClient):
    get = ServiceClient.unary_unary("shop.v1.Shop/Get", StringValue, Int64Value)
    watch = ServiceClient.unary_stream("shop.v1.Shop/Watch", StringValue, Int64Value)
    put = ServiceClient.stream_unary("shop.v1.Shop/Put", StringValue, Int64Value)


async def channels() -> None:
    async with Channel(["127.0.0.1:9001", "127.0.0.1:9002"], interceptors=[Timed()]) as channel:
        shop = Shop(channel)
        try:
            count: Int64Value = await shop.get(StringValue(value="a"), timeout=1, metadata={"x": "1"})
            assert count
            counts: list[Int64Value] = [each async for each in shop.watch(StringValue())]
            total: Int64Value = await shop.put([StringValue()])
            assert counts != [total]
        except RpcError.NotFound as error:
            code: Code = error.code
            same: Code = error.code()
            text: str = error.details
            found: list[StringValue] = error.rich_details(StringValue)
            print(code, same, text, found)


async def sessions() -> None:
    store = ValkeyStore(StoreSettings(url="valkey://127.0.0.1:6379/0"), "edge")
    async with SessionHub(RealtimeSettings(anonymous=True), store=store) as hub:
        hub.subscribe("news", print)
        await hub.publish("news", {"text": "hello"})
