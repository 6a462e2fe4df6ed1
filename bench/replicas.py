"""
Part r: one of three grpcio replicas is killed, stopped and drained while two gateways of one fleet carry 70 %
of what they can take.

The calls may run twice (`retry.methods`), and one attempt may take 500 ms; all else is as by default. Both
gateways have core 0, everything else core 1. A fault lasts `HOLD_S` seconds. What counts: no call fails, none
takes longer than an attempt and what follows it, and nobody sends the replica anything two seconds later.

    .bench-venv/bin/python bench/replicas.py [--rounds 1] [--seconds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from http_load import generated, load
from machine import ITEM_HEX, ITEM_JSON, LOAD_CORE, PYTHON, TESTED_CORE, free_port, running, valkey

CLIENTS = 16
ATTEMPT_S = 0.5
SECOND_ATTEMPT_S = 0.25
"""What a call that lost its first attempt may take longer: the wait before the second, and that one."""
LEFT_WITHIN_S = 2.0
BEFORE_S = 1.5
HOLD_S = 4.0
AFTER_S = 2.5
FAULTS = ("kill", "stop", "drain")

CONFIG = """version: 1
name: %s
listen: 127.0.0.1:%d
admin: {listen: "127.0.0.1:%d"}
store: {url: "redis://127.0.0.1:%d/0"}
upstreams:
  shop:
    endpoints: [%s]
    descriptors: %s/shop.binpb
    retry: {attempt_timeout: 500ms, methods: ["bench.Shop/*"]}
telemetry: {access_log: none}
"""


def replica(port: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    return running([PYTHON, "peers/grpcio_replica.py", str(port), ITEM_HEX], core=LOAD_CORE, port=port)


class Grounds:
    """Two gateways, three replicas and a store, while they run."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = stack.enter_context(valkey())
        self.victim_port, *others = (free_port() for _ in range(3))
        for port in others:
            stack.enter_context(replica(port))
        self.victims = stack.enter_context(contextlib.ExitStack())
        self.victim = self.victims.enter_context(replica(self.victim_port))
        addresses = ", ".join(f'"127.0.0.1:{port}"' for port in (self.victim_port, *others))
        self.ports: list[int] = []
        self.admins: list[int] = []
        for number in range(2):
            port, admin = free_port(), free_port()
            path = folder / f"gateway-{number}.yaml"
            path.write_text(CONFIG % (f"bench-{port}", port, admin, store, addresses, generated()))
            if number:  # of one fleet: the name is the first one's
                path.write_text(path.read_text().replace(f"bench-{port}", f"bench-{self.ports[0]}"))
            args = [str(Path(PYTHON).parent / "silence"), "run", "-c", str(path)]
            stack.enter_context(running(args, core=TESTED_CORE, port=port))
            self.ports.append(port)
            self.admins.append(admin)

    def begun(self) -> int:
        """Return how many calls the victim was given, ever, by both gateways."""
        count = 0
        for admin in self.admins:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/api/v1/upstreams", timeout=5) as answer:
                (shop,) = json.load(answer)
            count += sum(
                each["calls"] + each["in_flight"]
                for each in shop["endpoints"]
                if each["address"] == f"127.0.0.1:{self.victim_port}"
            )
        return count

    def begin(self, fault: str) -> None:
        """Break the victim."""
        if fault == "kill":
            self.victim.kill()
            self.victim.wait()
        elif fault == "stop":
            self.victim.send_signal(signal.SIGSTOP)
        else:
            self.drain("drain")

    def end(self, fault: str) -> None:
        """Mend it."""
        if fault == "kill":
            self.victim = self.victims.enter_context(replica(self.victim_port))
        elif fault == "stop":
            self.victim.send_signal(signal.SIGCONT)
        else:
            self.drain("active")

    def drain(self, state: str) -> None:
        path = f"api/v1/upstreams/shop/endpoints/127.0.0.1:{self.victim_port}?state={state}"
        request = urllib.request.Request(f"http://127.0.0.1:{self.admins[0]}/{path}", method="PUT")
        with urllib.request.urlopen(request, timeout=5) as answer:
            if not json.load(answer)["fleet"]:
                raise SystemExit("the fleet was not told of the drain")

    def left_after_s(self) -> float:
        """Watch for `HOLD_S` seconds; return when the victim was last given a call."""
        began_s = time.monotonic()
        left_s, before = 0.0, self.begun()
        while (now_s := time.monotonic() - began_s) < HOLD_S:
            now = self.begun()
            if now != before:
                left_s, before = now_s, now
            time.sleep(0.05)
        return left_s


@contextlib.contextmanager
def steady(port: int, rate: float, seconds: float, folder: Path) -> Iterator[Path]:
    """Send *rate* requests a second for *seconds*; the log that is yielded is whole afterwards."""
    log, data = folder / f"log-{port}", folder / "item"
    data.write_bytes(ITEM_JSON)
    process = subprocess.Popen(
        [
            "taskset", "-c", str(LOAD_CORE), "h2load", "--h1", f"--rps={rate / CLIENTS:.2f}", f"-c{CLIENTS}",
            "-t1", f"-D{seconds:.0f}", f"--log-file={log}", "-d", str(data),
            "-H", "content-type: application/json", f"http://127.0.0.1:{port}/v1/items",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield log
        if process.wait(seconds + 30):
            raise SystemExit(f"h2load ended with status {process.returncode}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def run(fault: str, rate: float, grounds: Grounds) -> dict[str, float]:
    """Break and mend the victim once under load, and return what callers saw."""
    seconds = BEFORE_S + HOLD_S + AFTER_S
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        logs = [stack.enter_context(steady(port, rate / 2, seconds + 1, folder)) for port in grounds.ports]
        time.sleep(BEFORE_S)
        grounds.begin(fault)
        left_s = grounds.left_after_s()
        grounds.end(fault)
        stack.close()
        rows = [line.split() for log in logs for line in log.read_text().splitlines()]
    taken_us = sorted(int(row[2]) for row in rows)
    return {
        "rate": len(rows) / seconds,
        "calls": len(rows),
        "failed": sum(row[1] != "200" for row in rows),
        "worst_ms": taken_us[-1] / 1000,
        "p99_ms": taken_us[len(taken_us) * 99 // 100] / 1000,
        "left_after_s": left_s,
    }


def measure(rounds: int, seconds: float) -> dict[str, object]:
    """Run part r and return its results."""
    runs: dict[str, list[dict[str, float]]] = {fault: [] for fault in FAULTS}
    with contextlib.ExitStack() as stack:
        grounds = Grounds(stack)
        load(grounds.ports[0], 2)
        rate = 0.7 * load(grounds.ports[0], seconds)["rps"]
        for _ in range(rounds):
            for fault in FAULTS:
                figures = run(fault, rate, grounds)
                runs[fault].append(figures)
                print(f"  {fault:8} {figures}", file=sys.stderr)
    worst_s = max(figures["worst_ms"] for figures in runs["stop"]) / 1000
    left_s = max(figures["left_after_s"] for figures in runs["stop"])
    ratios = {
        f"{fault}: calls that were answered": sum(each["calls"] - each["failed"] for each in runs[fault])
        / sum(each["calls"] for each in runs[fault])
        for fault in FAULTS
    }
    ratios["stop: one attempt and the next / the slowest call"] = (ATTEMPT_S + SECOND_ATTEMPT_S) / worst_s
    ratios["stop: 2 s / until nobody sends it calls"] = LEFT_WITHIN_S / max(left_s, 0.001)
    return {"runs": runs, "ratios": ratios}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    print(json.dumps(measure(options.rounds, options.seconds)["ratios"], indent=1))
