"""
Part l: the pure functions and the Lua scripts, side by side over 100,000 random steps per algorithm.

A step is a batch of requests or of changes on a clock that may step either way; both sides must give the
same numbers. Steps go out in traces, each with rules of its own, on a real Valkey that is given the time.
How to compare is the test suite's own (tests/agreement); here it is only done for longer, with a seed that
is printed. A disagreement is counted and printed, and the trace ends there.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from machine import HERE, valkey

STEPS = 100_000
STEPS_PER_TRACE = 100
SEED = 20_261_128
KEYS = "xy"
HOLDERS = ("h1", "h2", "h3", "h4")


def any_rule(algorithm: str, draw: random.Random) -> Any:
    """Draw a rule: small limits and short windows as often as large ones."""
    from silence_gateway.core.limits import Algorithm, Alignment, LimitRule, Mode
    from silence_gateway.core.rates import Rate, rate_per_months

    values: dict[str, Any] = {"name": "l", "mode": draw.choice(list(Mode))}
    if algorithm == "concurrency":
        most, ttl_us = draw.randint(1, 4), draw.randint(1_000_000, 5_000_000)
        return LimitRule(**values, algorithm=Algorithm.CONCURRENCY, max=most, ttl_us=ttl_us)
    count = draw.choice((draw.randint(1, 8), draw.randint(9, 200), draw.randint(1, 20_000)))
    if algorithm == "months":
        rate = rate_per_months(count, draw.choice((1, 2, 3, 4, 6, 12)))
        return LimitRule(**values, algorithm=Algorithm.FIXED_WINDOW, rate=rate)
    window_us = draw.choice((draw.randint(1_000, 4_000_000), draw.randint(1_000, 86_400_000_000)))
    if algorithm == "sliding_window":
        count, window_us = min(count, 200), draw.randint(1_000, 4_000_000)
    values["block_us"] = draw.choice((0, 0, draw.randint(1, 20_000_000)))
    if algorithm == "token_bucket":
        values["burst"] = draw.choice((None, draw.randint(1, 30)))
    if algorithm == "fixed_window":
        values["align"] = draw.choice(list(Alignment))
    return LimitRule(**values, algorithm=Algorithm(algorithm), rate=Rate(count, window_us))


def any_step(draw: random.Random) -> tuple[str, int, Any]:
    """Draw one step, in the form that the test suite's comparison takes."""
    from silence_gateway.core.limits import Op

    gap_us = draw.choice(
        (0, draw.randint(0, 500_000), draw.randint(0, 10_000_000), -draw.randint(0, 5_000_000),
         draw.randint(0, 40 * 86_400_000_000) if draw.random() < 0.1 else draw.randint(0, 5_000))
    )  # fmt: skip

    def cost() -> int:
        return draw.choice((1, 1, draw.randint(0, 12)))

    if draw.random() < 0.7:
        requests = [
            ([(0, cost(), draw.choice(HOLDERS))], draw.choice(KEYS)) for _ in range(draw.randint(1, 5))
        ]
        return "decide", gap_us, requests
    changes = [
        (draw.choice(list(Op)), 0, draw.choice(KEYS), cost(), draw.randint(0, 3), draw.choice(HOLDERS))
        for _ in range(draw.randint(1, 4))
    ]
    return "adjust", gap_us, changes


def disagreements(port: int, algorithm: str, steps: int) -> int:
    """Compare *steps* steps of one algorithm; return how many traces did not agree to their end."""
    import redis

    sys.path.insert(0, str(HERE.parent))
    from tests.agreement.traces import check_trace

    # A seed of its own, whatever else is run before it.
    draw = random.Random(f"{SEED} {algorithm}")
    wrong = 0
    with redis.Redis(port=port, protocol=2) as client:
        for begin in range(0, steps, STEPS_PER_TRACE):
            rule = any_rule(algorithm, draw)
            trace = [any_step(draw) for _ in range(min(STEPS_PER_TRACE, steps - begin))]
            try:
                check_trace(client, [rule], trace)
            except AssertionError as exc:
                wrong += 1
                print(f"  {algorithm}, seed {SEED}, step {begin}: {rule}: {exc}", file=sys.stderr)
    return wrong


def measure(rounds: int, seconds: float, steps: int = STEPS) -> dict[str, object]:
    """Run part l and return its results; it takes half a minute per algorithm."""
    del rounds, seconds
    runs = {}
    for algorithm in (
        "sliding_window", "sliding_counter", "token_bucket", "fixed_window", "months", "concurrency",
    ):  # fmt: skip
        with valkey() as port:
            wrong = disagreements(port, algorithm, steps)
        print(f"  {algorithm:16} {steps} steps, {wrong} disagreements", file=sys.stderr)
        runs[algorithm] = [{"steps": float(steps), "disagreements": float(wrong)}]
    if any(run[0]["disagreements"] for run in runs.values()):
        raise SystemExit("the two do not agree")
    return {"runs": runs, "ratios": {}}


if __name__ == "__main__":
    measure(1, 0, int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
