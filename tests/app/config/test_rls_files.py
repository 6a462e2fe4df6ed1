"""Rules in envoyproxy/ratelimit's form: what is taken, what is refused, and with which words."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.app.config.rls_files import fingerprint, load_rules, read_rules
from silence_gateway.core.rls_dump import as_values
from silence_gateway.core.rls_rules import Limit, Rule, RuleSet, Unit
from silence_gateway.errors import ConfigError

TABLE = Path(__file__).with_name("rls_mistakes.txt")


def rules_of(*texts: str, merge_domains: bool = False) -> RuleSet:
    files = [(Path(f"{name}.yaml"), text.encode()) for name, text in zip("abc", texts, strict=False)]
    return read_rules(files, merge_domains=merge_domains)


def only_rule(descriptor: str) -> Rule:
    [(_, rule)] = rules_of(f"domain: d\ndescriptors:\n- {descriptor}").rules()
    return rule


def cases() -> list[tuple[str, str, list[str]]]:
    found = []
    for part in TABLE.read_text().split("\n=== ")[1:]:
        name, _, rest = part.partition("\n")
        text, _, lines = rest.partition("\n---\n")
        found.append((name, text, lines.strip().splitlines()))
    return found


@pytest.mark.parametrize(
    ("text", "lines"), [pytest.param(text, lines, id=name) for name, text, lines in cases()]
)
def test_a_mistake_is_named_with_its_place_and_the_way_out(text: str, lines: list[str]) -> None:
    try:
        said = [f"warning: {line}" for line in rules_of(*text.split("\n~~~\n")).warnings]
    except ConfigError as exc:
        said = list(exc.problems)

    assert said == lines


WHOLE = """
---
# Everything that a file can say.
domain: d
descriptors:
  - key: a
    value: b*
    rate_limit:
      unit: Hour
      requests_per_unit: 1_000
      unit_multiplier: 0x10
      name: big
      replaces: [{name: small}, {name: smaller}]
    shadow_mode: yes
    quota_mode: True
    detailed_metric: on
    value_to_metric: "true"
    share_threshold: y
    metadata:
      owner: {team: x, ids: [1, 2.5, -3, "4", 05, no, ~, 1e3, 1.2.3, .5]}
    descriptors:
      - key: small
        rate_limit: {unit: WEEK, requests_per_unit: 0, name: small}
      - key: smaller
        rate_limit: {unit: month, requests_per_unit: 4294967295, name: smaller}
  - key: a
    value: 1.5
  - key: a
    value:
  - key: b
    rate_limit: {unlimited: true, requests_per_unit: 5}
  - {key: c, rate_limit: , descriptors: }
"""


def test_everything_that_a_file_can_say_is_read() -> None:
    rules = rules_of(WHOLE)

    first, second, third, unlimited, last = rules.domains["d"].branches
    assert (first.key, first.value, first.value_to_metric, first.share_threshold) == ("a", "b*", True, True)
    assert first.rule == Rule(
        limit=Limit(1_000, Unit.HOUR, 16, "big"),
        replaces=("small", "smaller"),
        shadow=True,
        quota=True,
        detailed_metric=True,
        metadata={"owner": {"team": "x", "ids": [1, 2.5, -3, "4", "05", False, None, 1_000, "1.2.3", 0.5]}},
    )
    assert [branch.rule for branch in first.inner.branches] == [
        Rule(limit=Limit(0, Unit.WEEK, 1, "small")),
        Rule(limit=Limit(4294967295, Unit.MONTH, 1, "smaller")),
    ]
    assert (second.value, third.value, third.rule) == ("1.5", "", None)
    assert unlimited.rule == Rule(limit=None)
    assert (last.rule, bool(last.inner)) == (None, False)
    assert rules.warnings == ()


def test_what_is_named_once_may_be_used_again() -> None:
    rules = rules_of(
        "domain: d\ndescriptors:\n"
        "- {key: a, rate_limit: &hourly {unit: hour, requests_per_unit: 5}}\n"
        "- &b {key: b, rate_limit: *hourly, descriptors: [{key: c, rate_limit: {<<: *hourly, unit: day}}]}\n"
        "- {<<: *b, key: d}\n"
    )

    assert [(name, rule.limit) for name, rule in rules.rules()] == [
        ("d.a", Limit(5, Unit.HOUR)),
        ("d.b", Limit(5, Unit.HOUR)),
        ("d.b.c", Limit(5, Unit.DAY)),
        ("d.d", Limit(5, Unit.HOUR)),
        ("d.d.c", Limit(5, Unit.DAY)),
    ]


@pytest.mark.parametrize("unit", ["second", "minute", "hour", "day", "week", "month", "year"])
def test_every_unit_is_known_in_letters_of_either_case(unit: str) -> None:
    for written in (unit, unit.upper(), unit.capitalize()):
        rule = only_rule(f"{{key: a, rate_limit: {{unit: {written}, requests_per_unit: 1}}}}")
        assert rule.limit == Limit(1, Unit[unit.upper()])


def test_a_domain_of_two_files_is_refused_or_merged() -> None:
    texts = ("domain: d\ndescriptors: [{key: a}]", "domain: d\ndescriptors: [{key: b}]", "domain: e")
    with pytest.raises(ConfigError) as caught:
        rules_of(*texts)
    assert caught.value.problems == (
        "b.yaml:1:9: the domain 'd' is in a.yaml already: put it into one file, or set rls.merge_domains",
    )

    merged = rules_of(*texts, merge_domains=True)
    assert [branch.key for branch in merged.domains["d"].branches] == ["a", "b"]
    assert set(merged.domains) == {"d", "e"}


def test_merged_files_may_not_say_one_thing_twice_but_may_replace_limits_of_each_other() -> None:
    one = "domain: d\ndescriptors: [{key: a, rate_limit: {unit: day, requests_per_unit: 1, name: one}}]"
    two = one.replace("name: one", "replaces: [{name: one}]")
    with pytest.raises(ConfigError) as caught:
        rules_of(one, two, merge_domains=True)
    assert caught.value.problems == (
        "b.yaml:2:15: the domain has the key 'a' without a value already: it is on line 2 of a.yaml",
    )

    assert rules_of(one, two.replace("key: a", "key: b"), merge_domains=True).warnings == ()


def test_only_the_first_hundred_problems_are_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        rules_of("domain: d\ndescriptors:\n" + "- x\n" * 120)

    assert len(caught.value.problems) == 101
    assert caught.value.problems[-1] == "and 20 more problems"


# The disk --------------------------------------------------------------------------------------


def test_a_directory_means_its_yaml_files_without_hidden_ones(tmp_path: Path) -> None:
    for name, domain in (("b.yaml", "b"), ("a.yml", "a"), (".hidden.yaml", "h"), ("notes.txt", "n")):
        (tmp_path / name).write_text(f"domain: {domain}")
    (tmp_path / "folder.yaml").mkdir()

    assert list(load_rules(tmp_path).domains) == ["a", "b"]
    assert list(load_rules(tmp_path / "b.yaml").domains) == ["b"]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file ends in \.yaml or \.yml"):
        load_rules(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_rules(tmp_path / "none.yaml")
    assert fingerprint(tmp_path) != fingerprint(tmp_path / "none.yaml")


def test_what_a_mapped_directory_holds_can_be_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_path: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load_rules(tmp_path)


def good_or_problems(data: bytes) -> bool:
    """Whether *data* is read, or refused with the place of each problem."""
    try:
        return bool(as_values(read_rules([(Path("a.yaml"), data)])))
    except ConfigError as exc:
        return bool(exc.problems) and all(line.startswith("a.yaml:") for line in exc.problems)


# Anything ----------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    st.integers(0, len(WHOLE)),
    st.integers(0, 12),
    st.text(alphabet=string.printable + "é*&{}\0\ud800", max_size=6),
)
def test_any_edit_of_a_good_file_is_good_or_a_config_error(at: int, cut: int, put: str) -> None:
    edited = (WHOLE[:at] + put + WHOLE[at + cut :]).encode(errors="surrogatepass")
    assert good_or_problems(edited)


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
TREE = yaml.safe_load(WHOLE)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(found for key, part in inner for found in paths_of(part, (*path, key)))]


@settings(max_examples=200)
@given(
    st.sampled_from(paths_of(TREE)[1:]),
    st.recursive(
        SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3)
    ),
)
def test_any_value_at_any_place_is_good_or_a_config_error(path: tuple[Any, ...], value: Any) -> None:
    tree = yaml.safe_load(WHOLE)
    around = tree
    for step in path[:-1]:
        around = around[step]
    around[path[-1]] = value
    assert good_or_problems(yaml.safe_dump(tree).encode())


KEYS = st.text("ab_*", min_size=1, max_size=3)
LIMITS = st.one_of(
    st.none(),
    st.just({"unlimited": True}),
    st.fixed_dictionaries(
        {"unit": st.sampled_from(["second", "week"]), "requests_per_unit": st.integers(0, 9)},
        optional={"unit_multiplier": st.integers(2, 9), "name": st.just("n")},
    ),
)


def descriptors(depth: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    one = st.fixed_dictionaries(
        {"key": KEYS},
        optional={"value": KEYS, "rate_limit": LIMITS, "value_to_metric": st.just(True)}
        | ({"descriptors": descriptors(depth - 1)} if depth else {}),
    )
    return st.lists(one, max_size=3, unique_by=lambda it: (it["key"], it.get("value")))


def tidied(level: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            key: tidied(value) if key == "descriptors" else value
            for key, value in one.items()
            if value not in (None, [])
        }
        for one in level
    ]


@given(descriptors(2))
def test_what_is_written_is_what_is_read(level: list[dict[str, Any]]) -> None:
    meant = {"domain": "d", "descriptors": tidied(level)}

    [domain] = as_values(rules_of(yaml.safe_dump(meant)))["domains"]
    assert domain == meant
