"""Whatever stands in the file: a configuration or a ConfigError, and never anything else."""

from __future__ import annotations

import string
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.app.config.load import load_text
from silence_gateway.errors import ConfigError

SEED = """
version: 1
listen: ["127.0.0.1:0"]
admin: {listen: "127.0.0.1:0", token: "0123456789abcdef"}
store: {url: "valkey://u:p@h:1/0", deadline: 25ms, breaker: {failures: 5, cool_down: 500ms}}
upstreams: {a: {endpoints: ["h:1", {address: "h:2"}], health: {interval: 5s}, services: [x.Y]}}
routes: [{match: {path: "/x/**", methods: [GET]}, upstream: a, auth: none}]
limits: [{name: l, match: {any: true}, key: [client_ip], rate: 10/s, algorithm: token_bucket, burst: 3}]
access: {allow: [10.0.0.0/8]}
realtime: {anonymous: true, origins: ["https://a.b"], namespaces: {"": {publish: true}}}
auth: {jwt: {hmac_secret: "0123456789abcdef0123456789abcdef"}}
server: {max_body: 1MiB}
telemetry: {access_log: text}
"""


@settings(max_examples=150)
@given(
    st.integers(0, len(SEED)),
    st.integers(0, 12),
    st.text(alphabet=string.printable + "é${}\0\ud800", max_size=6),
)
def test_any_edit_of_a_good_file_is_good_or_a_config_error(at: int, cut: int, put: str) -> None:
    try:
        load_text(SEED[:at] + put + SEED[at + cut :], "g.yaml", {})
    except ConfigError as exc:
        found = exc.problems
    else:
        return
    assert found
    assert all(line.startswith("g.yaml:") for line in found)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["5s", "1MiB", "a.B/C"]),
)
TREE = yaml.safe_load(SEED)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(found for key, part in inner for found in paths_of(part, (*path, key)))]


@settings(max_examples=150)
@given(
    st.sampled_from(paths_of(TREE)[1:]),
    st.recursive(
        SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3)
    ),
)
def test_any_value_at_any_place_is_good_or_a_config_error(path: tuple[Any, ...], value: Any) -> None:
    tree = yaml.safe_load(SEED)
    around = tree
    for step in path[:-1]:
        around = around[step]
    around[path[-1]] = value
    try:
        loaded = load_text(yaml.safe_dump(tree), "g.yaml", {})
    except ConfigError as exc:
        found = exc.problems
    else:
        assert loaded.describe()["digest"] == loaded.digest
        return
    assert all(line.startswith("g.yaml:") for line in found)


@settings(max_examples=100)
@given(st.text(max_size=120))
def test_any_text_is_good_or_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        load_text(text, "g.yaml", {})
