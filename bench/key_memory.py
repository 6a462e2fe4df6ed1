"""
Part m: what a key costs the store: a million keys of every algorithm, each in a server of its own.

What is measured is what the server says it uses (`used_memory`), after less before, over the keys: values,
names, times to live and the tables that hold them. Names are real ones (`edge:v2:limit:{hash}name:kind`)
for a million addresses, written by our own scripts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from silence_gateway.core.limits import Algorithm, Alignment, Ask, LimitRule
from silence_gateway.core.rates import Rate
from silence_gateway.stores.limit_batch import pack_requests
from silence_gateway.stores.limit_names import LimitNames
from silence_gateway.stores.server_process import ServerProcess, find_server

KEYS = 1_000_000
PER_CALL = 1_000
WANTED_BYTES = 200
RATIO = f"{WANTED_BYTES} bytes / larger of token_bucket and sliding_counter"
MAX_MEMORY_MB = 2_000
HOUR_US = 3_600_000_000

Row = tuple[LimitRule, int]


def rows() -> Iterator[tuple[str, Row]]:
    """Yield what is measured: a rule, and how many uses every key has."""
    rate = Rate(100, HOUR_US)
    of = Algorithm
    yield "token_bucket", (LimitRule(name="api", algorithm=of.TOKEN_BUCKET, rate=rate, burst=20), 1)
    yield "sliding_counter", (LimitRule(name="api", algorithm=of.SLIDING_COUNTER, rate=rate), 1)
    calendar = LimitRule(name="api", algorithm=of.FIXED_WINDOW, rate=rate)
    yield "fixed_window", (calendar, 1)
    first_hit = LimitRule(name="api", algorithm=of.FIXED_WINDOW, rate=rate, align=Alignment.FIRST_HIT)
    yield "fixed_window, first_hit", (first_hit, 1)
    for uses in (1, 10):
        window = LimitRule(name="api", algorithm=of.SLIDING_WINDOW, rate=rate)
        yield f"sliding_window, {uses} in the window", (window, uses)
    yield "concurrency, 1 holder", (LimitRule(name="api", algorithm=of.CONCURRENCY, max=5, ttl_us=HOUR_US), 1)


def fill(server: ServerProcess, rule: LimitRule, uses: int, keys: int) -> None:
    """Write *keys* keys with *uses* uses each, at moments of their own."""
    import redis

    names = LimitNames("edge")
    with redis.Redis(unix_socket_path=str(server.socket), protocol=2) as client:
        for _ in range(uses):
            for begin in range(0, keys, PER_CALL):
                batch: list[Any] = [
                    ((Ask(rule, address(number), 1, holder(number) if rule.kind == "c" else ""),), None)
                    for number in range(begin, min(keys, begin + PER_CALL))
                ]
                script, stored, args = pack_requests(batch, names.name_of)
                client.eval(script.text, len(stored), *stored, *args)


def address(number: int) -> str:
    """Return one client's address."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def holder(number: int) -> str:
    """Return a holder's name, as long as those of instances and their places are."""
    return f"a1b2c3d4e5f6-{number:08x}"


def used_memory(server: ServerProcess) -> int:
    """Ask the server what it uses, in bytes."""
    import redis

    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        return int(client.info("memory")["used_memory"])


def bytes_per_key(rule: LimitRule, uses: int, keys: int) -> float:
    """Measure one row in a server of its own."""
    server = ServerProcess(find_server(), max_memory_mb=MAX_MEMORY_MB)
    server.spawn()
    try:
        while not server.answers():
            time.sleep(0.02)
        before = used_memory(server)
        fill(server, rule, uses, keys)
        return (used_memory(server) - before) / keys
    finally:
        server.close()


def measure(rounds: int, seconds: float, keys: int = KEYS) -> dict[str, object]:
    """Run part m and return its results; one round says it all, for memory does not depend on the machine."""
    del rounds, seconds
    runs: dict[str, list[dict[str, float]]] = {}
    for name, (rule, uses) in rows():
        size = bytes_per_key(rule, uses, keys)
        runs[name] = [{"bytes_per_key": size}]
        print(f"  {name:32} {size:6.1f} bytes per key", file=sys.stderr)
    asked = [runs[name][0]["bytes_per_key"] for name in ("token_bucket", "sliding_counter")]
    ratios = {RATIO: WANTED_BYTES / max(asked)}
    return {"runs": runs, "ratios": ratios}


if __name__ == "__main__":
    measure(1, 0, int(sys.argv[1]) if len(sys.argv) > 1 else KEYS)
