"""Secrets are in no message, no dump, no repr, whatever goes wrong around them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.app.config.load import load_text
from silence_gateway.app.config.loaded import LoadedConfig
from silence_gateway.errors import ConfigError

SECRET = "hunter2-hunter2-hunter2-hunter2-hunter2"
FILE = f"""
upstreams: {{shop: {{endpoints: [127.0.0.1:9001]}}}}
store: {{url: "valkey://user:{SECRET}@127.0.0.1:6379/0"}}
admin: {{token: "{SECRET}"}}
realtime: {{tokens: {{hmac_secret: "{SECRET}"}}, api_key: "{SECRET}"}}
auth: {{jwt: {{hmac_secret: "{SECRET}"}}}}
"""


def everything_shown(loaded: LoadedConfig) -> str:
    return "".join(
        [
            json.dumps(loaded.describe()),
            repr(loaded),
            str(loaded),
            loaded.config.model_dump_json(),
            str(loaded.config.model_dump()),
            str(loaded.config),
            *loaded.warnings,
        ]
    )


def test_no_dump_shows_a_secret() -> None:
    loaded = load_text(FILE, "g.yaml", {})

    shown = everything_shown(loaded)
    assert "hunter2" not in shown
    assert loaded.config.store.url.password == SECRET
    config = loaded.describe()["config"]
    assert config["admin"]["token"] == "***"
    assert config["store"]["url"] == "valkey://user:***@127.0.0.1:6379/0"


def test_a_digest_tells_configurations_apart_but_not_secrets() -> None:
    one = load_text(FILE, "g.yaml", {})
    other_secret = load_text(FILE.replace("hunter2", "HUNTER2"), "g.yaml", {})
    other_value = load_text(FILE + "workers: 2\n", "g.yaml", {})

    assert one.digest == other_secret.digest
    assert one.digest != other_value.digest


@pytest.mark.parametrize(
    "text",
    [
        f"store: {{url: '{SECRET}'}}",
        f"store: {{url: ':{SECRET}@h'}}",
        f"store: {{url: 'valkey://user:{SECRET}'}}",
        f"store: {{url: 'postgres://user:{SECRET}@h'}}",
        f"store: {{url: 'valkey://user:{SECRET}@h:99999'}}",
        f"store: {{url: 'valkey://user:{SECRET}@h/x'}}",
        f"admin: {{token: *{SECRET}}}",
        f"admin: {{token: &{SECRET} x}}",
        f"admin: {{token: !{SECRET} x}}",
        f"admin: {{token: '${{{SECRET}'}}",
        f"admin: {{token: [{SECRET}]}}",
        f"admin: {{token: {{x: {SECRET}}}}}",
        'workers: "${PASSWORD}"',
        'server: {drain: "${PASSWORD}"}',
        'listen: "127.0.0.1:${PASSWORD}"',
        'limits: [{name: a, match: {any: true}, rate: "${PASSWORD}", key: "${PASSWORD}"}]',
        'access: {deny: "${PASSWORD}"}',
        'routes: [{match: {path: "${PASSWORD}", methods: "${PASSWORD}"}}]',
        'store: {url: "${PASSWORD}"}',
    ],
)
def test_no_message_shows_a_secret(text: str) -> None:
    if text.startswith("store: {url: 'hunter2"):
        # Nothing tells a password apart from a misspelt host when it stands there alone.
        text = text.replace(SECRET, f"x:{SECRET}@h")
    with pytest.raises(ConfigError) as caught:
        load_text("upstreams: {shop: {endpoints: [127.0.0.1:9001]}}\n" + text, "g.yaml", {"PASSWORD": SECRET})

    assert "hunter2" not in str(caught.value)


KEYS = [
    "name",
    "workers",
    "listen",
    "admin",
    "trusted_proxies",
    "store",
    "routes",
    "access",
    "server",
    "limits",
]


@settings(max_examples=100)
@given(
    st.text(alphabet="QZJXqzjx0189#%&;=", min_size=8, max_size=30),
    st.sampled_from(KEYS),
    st.sampled_from(["{}", "[{}]", "{{token: {}}}", "{{drain: {}}}", "{{url: {}}}", "{{allow: [{}, 1]}}"]),
)
def test_what_comes_from_outside_is_never_repeated(secret: str, key: str, form: str) -> None:
    said = ""
    try:
        load_text(
            "upstreams: {shop: {endpoints: [127.0.0.1:9001]}}\n" + key + ": " + form.format('"${S}"'),
            "g.yaml",
            {"S": secret},
        )
    except ConfigError as exc:
        said = str(exc)
    assert secret not in said
