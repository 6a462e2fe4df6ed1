"""The JSON Schema: well formed, complete, and of one mind with the reader."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.load import load_text
from silence_gateway.app.config.reference import sections
from silence_gateway.app.config.schema import json_schema
from silence_gateway.app.config.shape import entries_of
from silence_gateway.errors import ConfigError

SCHEMA = json_schema()


def accepts(schema: dict[str, Any] | bool, value: Any) -> bool:
    """Check *value* by the few keywords that our schema uses."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        return accepts(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], value)
    if "anyOf" in schema and not any(accepts(part, value) for part in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "type" in schema:
        fits = {
            "object": isinstance(value, dict),
            "array": isinstance(value, list),
            "string": isinstance(value, str),
            "boolean": isinstance(value, bool),
            "integer": isinstance(value, int) and not isinstance(value, bool),
            "number": isinstance(value, int | float) and not isinstance(value, bool),
            "null": value is None,
        }
        if not fits[schema["type"]]:
            return False
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get(
        "maximum", value
    ):
        return False
    if isinstance(value, list):
        return all(accepts(schema.get("items", {}), part) for part in value)
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        return set(schema.get("required", ())) <= set(value) and all(
            accepts(known.get(key, others), part) for key, part in value.items()
        )
    return True


GOOD = [
    "upstreams: {a: {endpoints: [h:1], protocol: http}}\nroutes: [{match: {path: /**}, upstream: a}]",
    "upstreams: {shop: {endpoints: [127.0.0.1:9001]}}",
    "upstreams: {shop: {endpoints: '[::1]:9001', tls: {}}}\nworkers: 3\nlisten: 127.0.0.1:0",
    'upstreams: {shop: {endpoints: [{address: "h:1"}]}}\nworkers: "${W:-3}"\nserver: {drain: "${D:-5s}"}',
    "realtime: {anonymous: true, namespaces: {'': , chat: {publish: true}}}\nadmin:",
    "upstreams: {a: {endpoints: ['h:1']}}\nlimits: [{name: l, match: {any: true}, rate: 10/30s, key: user}]",
]
BAD = [
    "upstreams: {shop: {}}",
    "upstreams: {shop: {endpoints: [8080]}}",
    "upstreams: {a: {endpoints: ['h:1']}}\nworkrs: 3",
    "upstreams: {a: {endpoints: ['h:1']}}\nserver: {drain: 5}",
    "upstreams: {a: {endpoints: ['h:1'], balancer: magic}}",
    "upstreams: {a: {endpoints: ['h:1']}}\nworkers: 0",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_read_fits_the_schema(text: str) -> None:
    load_text(text, "g.yaml", {})

    assert accepts(SCHEMA, yaml.safe_load(text))


@pytest.mark.parametrize("text", BAD)
def test_what_is_refused_by_its_form_does_not_fit(text: str) -> None:
    with pytest.raises(ConfigError):
        load_text(text, "g.yaml", {})

    assert not accepts(SCHEMA, yaml.safe_load(text))


def test_the_defaults_in_the_schema_fit_the_schema() -> None:
    def defaults(schema: Any) -> Iterator[tuple[dict[str, Any], Any]]:
        if isinstance(schema, dict):
            if "default" in schema:
                yield schema, schema["default"]
            for part in schema.values():
                yield from defaults(part)

    found = list(defaults(SCHEMA))
    assert len(found) > 80
    for schema, default in found:
        assert accepts(schema, default), (schema, default)


def test_every_key_of_every_model_is_in_the_schema_with_its_description() -> None:
    objects = [SCHEMA, *SCHEMA["$defs"].values()]
    for _, model, _ in sections(GatewayConfig, "", 0):
        keys = set(entries_of(model))
        assert any(set(found["properties"]) == keys for found in objects), model
    for found in objects:
        for key, schema in found["properties"].items():
            assert schema["description"].endswith("."), key


def test_the_schema_is_json_with_patterns_that_compile() -> None:
    text = json.dumps(SCHEMA)

    def patterns(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            if isinstance(part.get("pattern"), str):
                yield part["pattern"]
            for inner in part.values():
                yield from patterns(inner)
        elif isinstance(part, list):
            for inner in part:
                yield from patterns(inner)

    for pattern in patterns(json.loads(text)):
        re.compile(pattern)
    for reference in re.findall(r'"#/\$defs/(\w+)"', text):
        assert SCHEMA["$defs"][reference]
