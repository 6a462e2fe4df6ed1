"""The reference page says what the models say."""

from __future__ import annotations

from pathlib import Path

from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.later import LATER, advice_for
from silence_gateway.app.config.reference import reference_page, sections
from silence_gateway.app.config.schema import summary
from silence_gateway.app.config.shape import Items, Keys, Table, entries_of

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "config.md"


def test_the_page_in_the_docs_is_the_one_that_the_models_write() -> None:
    """If this fails: python -m silence_gateway.app.config.reference > docs/reference/config.md"""
    assert PAGE.read_text() == reference_page()


def test_every_field_is_described_and_has_a_row() -> None:
    page = reference_page()
    for name, model, _ in sections(GatewayConfig, "", 0):
        assert model.__doc__
        assert summary(model).endswith("."), name
        for entry in entries_of(model).values():
            assert entry.field.description, f"{name}.{entry.key}"
            assert f"| `{entry.key}` |" in page


def test_a_key_that_works_is_not_among_those_that_come_later() -> None:
    """When a key starts to work, its row in `later.py` goes away; sections that a row is in do exist."""
    for path in LATER:
        *around, last = path.split(".")
        shape: object = Keys(GatewayConfig)
        for step in around:
            if isinstance(shape, Items | Table):
                if step == "*":
                    shape = shape.item
                    continue
                shape = shape.item
            assert isinstance(shape, Keys), path
            shape = entries_of(shape.model)[step].shape
        while isinstance(shape, Items | Table):
            shape = shape.item
        assert isinstance(shape, Keys), path
        assert last not in entries_of(shape.model), f"{path} works: remove it from LATER"


def test_advice_is_found_by_the_place_of_a_key() -> None:
    assert advice_for(("realtime", "namespaces", "x", "history")) == "publications are not kept"
    assert advice_for(("history",)) is None
