"""Rules anew while the service runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.rls.asking import Asked, rules_of, run

from silence_gateway.app.config.rls_files import fingerprint, load_rules
from silence_gateway.core.rls_rules import RuleSet
from silence_gateway.errors import ConfigError
from silence_gateway.events import RulesLoaded, RulesRefused
from silence_gateway.rls.reloading import Load, RuleWatcher, try_replace

RULES = """
domain: d
descriptors:
  - key: addr
    rate_limit: {unit: minute, requests_per_unit: 1}
"""
OTHER = RULES.replace("requests_per_unit: 1", "requests_per_unit: 3")
ODD = RULES.replace("rate_limit:", "shadow_mode: true\n  - key: other\n    rate_limit:")


async def here(load: Load) -> RuleSet:
    """Read without a thread, so that time need not pass for it."""
    return load()


def test_good_rules_replace_the_old_ones() -> None:
    asked = Asked(RULES)

    assert try_replace(asked.service, lambda: rules_of(OTHER))
    assert asked.answer("addr=1").statuses[0].limit_remaining == 2
    assert asked.events == [RulesLoaded(domains=1, rules=1)]
    assert asked.service.statistics.config_load_success == 2


def test_rules_that_cannot_be_used_change_nothing_and_are_told() -> None:
    asked = Asked(RULES)

    assert not try_replace(asked.service, lambda: rules_of("domain: d\ndescriptor: []"))
    assert asked.codes("addr=1") == ["OK", "OK"]
    assert asked.codes("addr=1") == ["OVER_LIMIT", "OVER_LIMIT"]
    assert asked.events == [
        RulesRefused(
            problems=("rules.yaml:2:1: unknown key 'descriptor' in the file (did you mean 'descriptors'?)",)
        )
    ]
    assert asked.events[0].level == "error"
    assert asked.service.statistics.config_load_error == 1


def test_what_may_surprise_is_told_with_the_rules() -> None:
    asked = Asked(RULES)
    try_replace(asked.service, lambda: rules_of(ODD))

    [event] = asked.events
    assert isinstance(event, RulesLoaded)
    assert event.level == "warning"
    assert len(event.warnings) == 1
    assert RulesLoaded(domains=1, rules=1).level == "info"


class Files:
    """A directory of rules that a watcher looks at once a second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0
        self.write(RULES)
        self.asked = Asked(RULES)

    def write(self, text: str, name: str = "a.yaml") -> None:
        path = self.folder / name
        path.write_text(text)
        # File systems may count in steps that are longer than a test.
        self.number += 1
        os.utime(path, (self.number, self.number))

    def watcher(self) -> RuleWatcher:
        return RuleWatcher(
            self.asked.service,
            lambda: load_rules(self.folder),
            lambda: fingerprint(self.folder),
            fingerprint(self.folder),
            self.asked.clock,
            here,
        )

    def limit(self) -> int:
        return limit_of(self.asked)


def limit_of(asked: Asked) -> int:
    [(_, rule)] = asked.service.rules.rules()
    assert rule.limit is not None
    return rule.limit.requests


def test_a_changed_file_is_read_within_a_second(tmp_path: Path) -> None:
    async def scenario() -> None:
        files = Files(tmp_path)
        async with files.watcher():
            await files.asked.clock.advance(5)
            assert files.asked.events == []
            files.write(OTHER)
            await files.asked.clock.advance(0.9)
            assert files.limit() == 1
            await files.asked.clock.advance(0.1)
            assert files.limit() == 3

    run(scenario())


def test_a_bad_file_is_told_once_and_read_again_when_it_is_corrected(tmp_path: Path) -> None:
    async def scenario() -> None:
        files = Files(tmp_path)
        async with files.watcher():
            files.write("domain: [")
            await files.asked.clock.advance(5)
            assert [type(event) for event in files.asked.events] == [RulesRefused]
            assert files.limit() == 1
            files.write(OTHER)
            await files.asked.clock.advance(1)
            assert files.limit() == 3

    run(scenario())


def test_a_file_that_comes_or_goes_is_a_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        files = Files(tmp_path)
        async with files.watcher():
            files.write("domain: e", "b.yaml")
            await files.asked.clock.advance(1)
            assert set(files.asked.service.rules.domains) == {"d", "e"}
            (tmp_path / "b.yaml").unlink()
            await files.asked.clock.advance(1)
            assert set(files.asked.service.rules.domains) == {"d"}
            (tmp_path / "a.yaml").unlink()
            await files.asked.clock.advance(1)
            assert set(files.asked.service.rules.domains) == {"d"}
            assert isinstance(files.asked.events[-1], RulesRefused)

    run(scenario())


def test_a_link_that_is_moved_is_a_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        for name, text in (("one", RULES), ("two", OTHER)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "a.yaml").write_text(text)
            os.utime(tmp_path / name / "a.yaml", (1, 1))
        link = tmp_path / "current"
        link.symlink_to("one")
        files = Files(tmp_path)
        files.folder = link
        async with files.watcher():
            (tmp_path / "next").symlink_to("two")
            (tmp_path / "next").rename(link)
            await files.asked.clock.advance(1)
            assert files.limit() == 3

    run(scenario())


def test_a_watcher_reads_in_a_thread_by_itself() -> None:
    async def scenario() -> None:
        asked = Asked(RULES)
        watcher = RuleWatcher(asked.service, lambda: rules_of(OTHER), lambda: 2, 1, asked.clock)
        await asyncio.wait_for(watcher.look(), 10)
        assert limit_of(asked) == 3

    run(scenario())


def test_nothing_is_read_where_nothing_may_have_changed() -> None:
    async def scenario() -> None:
        def load() -> RuleSet:
            raise ConfigError("not asked for")

        asked = Asked(RULES)
        await RuleWatcher(asked.service, load, lambda: 1, 1, asked.clock).look()
        assert asked.events == []

    run(scenario())


def test_a_mistake_in_the_program_is_not_swallowed() -> None:
    async def scenario() -> None:
        def broken() -> object:
            raise ZeroDivisionError

        asked = Asked(RULES)
        with pytest.raises(ZeroDivisionError):
            async with RuleWatcher(asked.service, lambda: rules_of(OTHER), broken, 1, asked.clock):
                await asked.clock.advance(1)

    run(scenario())
