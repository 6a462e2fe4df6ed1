"""The docs say what the program does: tables from the code, links that lead somewhere, files that load."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from scripts import docs, docs_from_code

from silence_gateway.core import breaker, session_state, store_failover
from silence_gateway.edge.codes import CODES
from silence_gateway.errors import RpcError

PAGES = docs.pages()


def text_of(page: str) -> str:
    return (docs.ROOT / page).read_text()


def rows_under(page: str, heading: str) -> list[tuple[str, ...]]:
    """Return the rows of the first table with that header line."""
    lines = text_of(page).splitlines()
    rows = []
    for line in lines[lines.index(heading) + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(tuple(cell.strip(" `") for cell in line.strip("|").split("|")))
    return rows


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_up_to_date_and_everything_in_it_holds(page: str) -> None:
    """If this fails because of what the code says: make docs."""
    assert [str(problem) for problem in docs.problems_of(page)] == []


def test_the_reference_names_every_metric_and_every_admin_path() -> None:
    assert list(docs.check_completeness()) == []


def test_the_breaker_table_of_the_page_is_the_one_in_the_code() -> None:
    rows = rows_under("docs/design/upstreams.md", "| in | on | goes to |")

    expected = {(a.value, event.value, b.value) for (a, event), b in breaker.TRANSITIONS.items()}
    assert set(rows) == expected
    assert len(rows) == len(expected)


def test_the_failover_table_of_the_page_is_the_one_in_the_code() -> None:
    rows = rows_under("docs/design/stores.md", "| in | on | goes to |")

    expected = {(a.value, signal.value, b.value) for (a, signal), b in store_failover.TRANSITIONS.items()}
    assert set(rows) == expected


def test_the_session_table_of_the_page_is_the_one_in_the_code() -> None:
    rows = rows_under("docs/design/realtime.md", "| in | may go to |")

    said = {state: set(re.findall(r"[a-z]+", then.partition(":")[0])) - {"nothing"} for state, then in rows}
    assert said == {
        state.value: {after.value for after in then} for state, then in session_state.TRANSITIONS.items()
    }


def test_the_page_of_errors_has_the_codes_of_the_edge() -> None:
    rows = rows_under("docs/reference/errors.md", "| error | HTTP | gRPC code | WebSocket close | when |")

    said = {name: (http, grpc, close) for name, http, grpc, close, _ in rows}
    assert said.pop(RpcError.__name__)[2] == str(CODES[RpcError].close)
    assert said == {
        kind.__name__: (str(codes.http), codes.grpc.name, str(codes.close))
        for kind, codes in CODES.items()
        if kind is not RpcError
    }


@pytest.mark.parametrize("page", PAGES)
def test_code_in_a_page_can_be_read(page: str) -> None:
    for found in docs.FENCE.finditer(text_of(page)):
        if found[1] == "python":
            ast.parse(found[2])
        elif found[1] == "json":
            json.loads(found[2])


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_no_folder_of_the_machine_it_was_written_on(page: str) -> None:
    assert re.search(r"(?<![\w.])/(work|root|home)/", text_of(page)) is None


# The checks themselves ------------------------------------------------------------------------


def test_a_link_that_leads_nowhere_is_found_with_its_line() -> None:
    text = "# One\n\n[good](README.md) and\n[bad](nothing.md) and [bad too](#two) and `[code](x.md)`\n"

    assert [(one.line, one.text) for one in docs.check_links("README.md", text)] == [
        (4, "there is no nothing.md"),
        (4, "README.md has no heading #two"),
    ]


def test_a_wrong_configuration_is_found_with_its_line() -> None:
    text = "Some words\n\n```yaml\nlimits:\n  - name: a\n    mach: {any: true}\n    rate: 1/s\n```\n"

    found = list(docs.check_yaml("page.md", text))

    assert [one.line for one in found] == [5, 6]
    assert "did you mean 'match'" in found[1].text


def test_what_cannot_be_parsed_is_found_with_its_line() -> None:
    [found] = docs.check_yaml("page.md", "```yaml\na: 1\na: 2\n```\n")

    assert found.line == 3


def test_blocks_that_nobody_makes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.md").write_text("<!-- from the code: no such block -->\n<!-- end -->\n")
    monkeypatch.setattr(docs, "ROOT", tmp_path)

    assert "no such block" in docs.problems_of("page.md")[0].text


def test_text_that_was_changed_by_hand_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.md").write_text("x\n<!-- from the code: exit codes -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(docs, "ROOT", tmp_path)

    assert [str(one) for one in docs.problems_of("page.md")] == [
        "page.md:3: is not what the code says; run make docs"
    ]


def test_figures_are_those_of_the_results_and_none_are_claimed_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "RESULTS.md"
    monkeypatch.setattr(docs_from_code, "RESULTS", results)
    assert "make bench" in docs_from_code.measured()

    results.write_text("| a: JSON to gRPC | silence / envoy | 2.31 | 2.0 |\n")

    assert "2.3 times the JSON-to-gRPC requests per second of Envoy." in docs_from_code.measured()
