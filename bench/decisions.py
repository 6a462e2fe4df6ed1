"""
Parts d, i and j: limit decisions per second of one process, side by side with peers.

d: every decision made in one real Valkey, by our exact sliding window, `limits`, throttled-py and, on Node,
   rate-limiter-flexible.
i: the same without a store, in the memory of the process, ours and `limits`.
j: as d, but on 100 hot keys, which is what leases are for: ours with leases, against `limits`.

How each of them decides is in deciders.py and peers/decide.js.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence

from machine import HERE, PYTHON, TESTED_CORE, abba, median_ratio, valkey

CALLERS = (8, 64, 512)
NODE = "rate-limiter-flexible"
NODE_HOT = f"{NODE}, hot keys"
NODE_FILES = HERE / "peers" / "node_modules" / NODE
EXACT = "silence", "limits", "limits, redis-py", "throttled-py", NODE
MEMORY = "silence, memory", "limits, memory"
MEMORY_NOW = "silence, memory, no loop", "limits, memory, no loop"
LEASED = "silence, leased", "limits, hot keys", NODE_HOT


def command_of(name: str) -> list[str]:
    """Return the program that decides as *name*."""
    if name in (NODE, NODE_HOT):
        return ["node", str(HERE / "peers" / "decide.js"), "hot" if name == NODE_HOT else "many"]
    return [PYTHON, str(HERE / "deciders.py"), name]


def at_hand(names: Sequence[str]) -> Sequence[str]:
    """Leave out what cannot be run here, and say so."""
    if shutil.which("node") is not None and NODE_FILES.exists():
        return names
    print(
        f"  SKIPPED: {NODE}: node or its packages are missing (npm install in bench/peers)", file=sys.stderr
    )
    return [name for name in names if name not in (NODE, NODE_HOT)]


def rate_of(name: str, callers: int, seconds: float) -> float:
    """Return decisions per second of one program, on a fresh store: nobody pays for another's keys."""
    with valkey() as port:
        done = subprocess.run(
            ["taskset", "-c", str(TESTED_CORE), *command_of(name), str(port), str(callers), str(seconds)],
            stdout=subprocess.PIPE,
            check=True,
        )
    return float(json.loads(done.stdout))


def side_by_side(
    names: Sequence[str], callers: Sequence[int], rounds: int, seconds: float
) -> dict[str, dict[str, object]]:
    """Run *names* in turns, the first of which is ours; return their runs and our ratios to the others."""
    runs: dict[str, list[dict[str, float]]] = {}
    ratios: dict[str, float] = {}
    for count in callers:
        of: dict[str, list[float]] = {name: [] for name in names}
        for _, name in abba(names, rounds):
            rate = rate_of(name, count, seconds)
            of[name].append(rate)
            runs.setdefault(f"{name}, {count} callers", []).append({"decisions_per_second": rate})
            print(f"  {name:26} {count:4} callers {rate:9.0f} decisions/s", file=sys.stderr)
        for peer in names[1:]:
            ratios[f"{names[0]} / {peer} ({count} callers)"] = median_ratio(of[names[0]], of[peer])
    return {"runs": runs, "ratios": ratios}


def measure(rounds: int, seconds: float) -> dict[str, dict[str, object]]:
    """Run part d and return its results."""
    return side_by_side(at_hand(EXACT), CALLERS, rounds, seconds)


def measure_memory(rounds: int, seconds: float) -> dict[str, dict[str, object]]:
    """Run part i and return its results."""
    looped = side_by_side(MEMORY, (1, *CALLERS), rounds, seconds)
    now = side_by_side(MEMORY_NOW, (1,), rounds, seconds)
    return {part: {**looped[part], **now[part]} for part in looped}


def measure_leases(rounds: int, seconds: float) -> dict[str, dict[str, object]]:
    """Run part j and return its results."""
    return side_by_side(at_hand(LEASED), CALLERS, rounds, seconds)
