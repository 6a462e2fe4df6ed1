"""Never run: it must type-check. What a user of the library writes has the types that it looks like."""

from collections.abc import Sequence

from silence_gateway import (
    Channel,
    Decision,
    GrpcConnection,
    GrpcUpstream,
    Limit,
    RateLimiter,
    RealtimeSettings,
    SessionHub,
    StoreSettings,
    UpstreamSettings,
    ValkeyStore,
    connect,
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


async def upstreams() -> None:
    async with GrpcUpstream(UpstreamSettings.of("127.0.0.1:9001", timeout_s=1.0)) as upstream:
        channel: Channel = Channel(upstream)
        answer: bytes = await channel.unary_unary("/a.B/C", bytes, bytes)(b"", timeout=1.0)
        assert answer
        reply = await upstream.unary(b"/a.B/C", b"")
        message: bytes = reply.message
        assert message
    connection: GrpcConnection = await connect("127.0.0.1:9001")
    await connection.close(graceful=True)


async def sessions() -> None:
    store = ValkeyStore(StoreSettings(url="valkey://127.0.0.1:6379/0"), "edge")
    async with SessionHub(RealtimeSettings(anonymous=True), store=store) as hub:
        hub.subscribe("news", print)
        await hub.publish("news", {"text": "hello"})
