"""Lists that only files change."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from silence_gateway.errors import BadRequest, ConfigError
from silence_gateway.events import Event
from silence_gateway.file_watch import FileReread, FileUnusable
from silence_gateway.limiting import access_files
from silence_gateway.limiting.access import AccessLists
from silence_gateway.limiting.access_entry import Verdict
from silence_gateway.limiting.access_files import read_list_file
from silence_gateway.stores.memory import MemoryStore
from silence_gateway.testing.clock import FakeClock


def test_files_and_configuration_are_one_list(tmp_path: Path) -> None:
    async def scenario() -> None:
        bad, good, both = tmp_path / "bad.txt", tmp_path / "good.txt", tmp_path / "both.txt"
        bad.write_text("10.0.0.0/8\n2001:db8::/32\n")
        good.write_text("10.1.0.0/16 # ours\n")
        both.write_text("192.0.2.0/24\n")
        lists = AccessLists(
            MemoryStore().board,
            FakeClock(),
            deny=["10.1.6.6"],
            allow_files=[good, both],
            deny_files=[bad, both],
        )
        lists.start()

        said = {
            ip: lists.verdict(ip) for ip in ("10.9.9.9", "10.1.2.3", "10.1.6.6", "2001:db8::1", "192.0.2.1")
        }
        assert said == {
            "10.9.9.9": Verdict.DENY,
            "10.1.2.3": Verdict.ALLOW,
            "10.1.6.6": Verdict.DENY,
            "2001:db8::1": Verdict.DENY,
            "192.0.2.1": Verdict.DENY,
        }
        assert [entry.network for entry in lists.list("allow")] == ["10.1.0.0/16", "192.0.2.0/24"]
        with pytest.raises(BadRequest, match="or a list file"):
            await lists.remove("deny", "10.0.0.0/8")
        await lists.stop()

    asyncio.run(scenario())


def test_a_changed_file_holds_from_then_on_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "deny.txt"
        path.write_text("10.0.0.0/8\n")
        told: list[Event] = []
        lists = AccessLists(MemoryStore().board, FakeClock(), deny_files=[path], observer=told.append)
        assert lists.verdict("10.0.0.1") is Verdict.DENY
        assert lists.verdict("11.0.0.1") is Verdict.NONE

        async def after(text: str) -> tuple[Verdict, Verdict]:
            path.write_text(text)
            for _ in range(2):
                await lists.fixed.watch.look()
            return lists.verdict("10.0.0.1"), lists.verdict("11.0.0.1")

        assert await after("11.0.0.0/8\n\n") == (Verdict.NONE, Verdict.DENY)
        assert await after("10.0.0.0/8\n11.0.0.0/99\nx\n") == (Verdict.NONE, Verdict.DENY)
        assert told[0] == FileReread(path=str(path))
        assert isinstance(told[1], FileUnusable)
        assert [problem.partition(": ")[0] for problem in told[1].problems] == [f"{path}:2", f"{path}:3"]
        assert await after("10.0.0.0/8\n") == (Verdict.DENY, Verdict.NONE)

    asyncio.run(scenario())


def test_what_is_not_text_is_named_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"^list:2: byte 0xff is not UTF-8$"):
        read_list_file(Path("list"), b"10.0.0.1\n\xff\n")


def test_a_list_full_of_mistakes_is_told_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_files, "MAX_PROBLEMS", 2)
    with pytest.raises(ConfigError) as caught:
        read_list_file(Path("list"), b"x\n" * 5)

    assert len(caught.value.problems) == 3
    assert caught.value.problems[2] == "list: and 3 more problems"


def test_a_file_that_cannot_be_used_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        AccessLists(MemoryStore().board, FakeClock(), deny_files=[tmp_path / "missing"])
