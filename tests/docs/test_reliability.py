"""The page of faults: a row for each fault that there is, with figures that keep what the page promises."""

from __future__ import annotations

import json

import pytest
from scripts import docs, docs_from_code
from tests.stores.faults.table import FAULTS

ROWS = json.loads(docs_from_code.FAULTS.read_text())["rows"]
BY_NAME = {fault.name: fault for fault in FAULTS}


def test_the_page_has_every_fault_and_no_other() -> None:
    """If this fails because there is a new fault: bench/faults.py --only NAME, and make docs."""
    text = (docs.ROOT / "docs" / "reliability.md").read_text()
    table = docs.BLOCK.search(text)
    assert table is not None
    names = [line.split(" | ")[0].removeprefix("| ") for line in table[0].splitlines() if " | " in line]

    assert names == ["fault", "---", *(fault.name for fault in FAULTS)]
    assert list(ROWS) == [fault.name for fault in FAULTS]


@pytest.mark.parametrize("name", ROWS)
def test_the_figures_keep_what_the_page_promises(name: str) -> None:
    row, fault = ROWS[name], BY_NAME[name]

    assert row["failed"] == 0
    assert row["twice"] == 0
    assert row["worst_before_s"] < 0.025 + 0.025, "the deadline, and what the loop may be late by"
    assert row["recovered_s"] <= (3.0 if fault.failover else 2.0)
    assert row["reconnects"] <= 2
    assert row["elsewhere_local"] == 0
    assert row["opens"] == fault.opens
    if fault.opens:
        assert row["opened_s"] <= 1.0
        assert row["after_s"] <= 0.001
    elif fault.opens is False:
        assert row["opened_s"] is None
