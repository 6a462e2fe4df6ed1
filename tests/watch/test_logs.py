"""Log lines are one line each, say who and what, and never stop the gateway."""

import asyncio
import dataclasses
import json
import os

from silence_gateway.events import BreakerMoved, Noticed, OperatorSaid, StoreFound, StoreLost
from silence_gateway.testing import FakeClock
from silence_gateway.watch.logs import MAX_WAITING_LINES, EventLog, LogWriter, clean, in_words


def written(form: str, level: str, *events: object) -> list[str]:
    read_end, write_end = os.pipe()

    async def scenario() -> None:
        log = EventLog(LogWriter(write_end), FakeClock(), form, level)  # type: ignore[arg-type]
        for event in events:
            log(event)  # type: ignore[arg-type]
        await asyncio.sleep(0)

    asyncio.run(scenario())
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        return pipe.read().splitlines()


def test_an_event_is_one_json_line_with_its_facts() -> None:
    (line,) = written("json", "info", StoreLost(reason="connection refused"))

    assert json.loads(line) == {
        "time": json.loads(line)["time"],
        "level": "warning",
        "event": "store lost",
        "reason": "connection refused",
    }
    assert json.loads(line)["time"].endswith("Z")


def test_an_end_is_written_as_a_time_that_people_read() -> None:
    said = OperatorSaid(
        upstream="shop",
        endpoint="a:1",
        what="breaker open",
        who="admin API from ::1",
        told="i1",
        said_us=1_799_996_400_000_000,
        reason="moving house",
        until_us=1_800_000_000_000_000,
        fleet=True,
        warning="",
    )

    lines = written("json", "info", said, dataclasses.replace(said, what="drain", until_us=None))

    assert [json.loads(line)["until"] for line in lines] == ["2027-01-15T08:00:00.000Z", ""]
    assert {json.loads(line)["said"] for line in lines} == {"2027-01-15T07:00:00.000Z"}


def test_a_text_line_cannot_be_forged() -> None:
    (line,) = written("text", "info", Noticed(what="hello\n2026-01-01 error forged"))

    assert "hello\\x0a2026-01-01 error forged" in line


def test_people_read_what_happened_and_not_how_it_is_kept() -> None:
    assert in_words(Noticed(what="10.0.0.1:1 is not well yet")) == "10.0.0.1:1 is not well yet"
    assert in_words(StoreLost(reason="no answer")) == "store lost reason=no answer"


def test_what_is_below_the_level_is_not_written() -> None:
    moved = BreakerMoved(upstream="u", endpoint="e", old="closed", new="open", reason="5 in a row")

    lines = written("text", "warning", StoreFound(down_s=1.0), moved)

    assert len(lines) == 1
    assert "breaker moved" in lines[0]


def test_a_log_that_cannot_be_written_is_counted_and_harmless() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    writer = LogWriter(write_end)

    writer.line("lost")

    assert writer.dropped == 1
    os.close(write_end)


def test_a_reader_that_hangs_is_not_waited_for_and_gets_every_line_later() -> None:
    """Far more than a pipe holds: the writer returns, and what was written arrives whole, in order."""
    read_end, write_end = os.pipe()

    async def scenario() -> bytes:
        writer = LogWriter(write_end)
        for number in range(5000):
            writer.line(f"{number} " + "x" * 100)
            if number % 100 == 0:
                await asyncio.sleep(0)
        assert writer.dropped == 0
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
        )
        lines = [await asyncio.wait_for(reader.readline(), 10) for _ in range(5000)]
        transport.close()
        return b"".join(line.split(b" ")[0] + b"," for line in lines)

    arrived = asyncio.run(scenario())

    assert arrived == b"".join(b"%d," % number for number in range(5000))
    os.close(write_end)


def test_lines_for_a_reader_that_hangs_are_bounded_and_counted() -> None:
    read_end, write_end = os.pipe()

    async def scenario() -> LogWriter:
        writer = LogWriter(write_end)
        for number in range(2 * MAX_WAITING_LINES):
            writer.line("x" * 100)
            if number % 1000 == 0:
                await asyncio.sleep(0)
        writer.flush(0.01)
        return writer

    writer = asyncio.run(scenario())

    assert 0 < writer.dropped < 2 * MAX_WAITING_LINES
    os.close(read_end)
    os.close(write_end)


def test_control_characters_are_shown_not_sent() -> None:
    assert clean("a\x1b[31mb\x00") == "a\\x1b[31mb\\x00"
