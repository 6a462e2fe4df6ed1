"""The section `rls`, and the files of rules that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from silence_gateway.app.config.load import load, load_text
from silence_gateway.app.config.rls import RlsConfig
from silence_gateway.app.engine_settings import rls_settings
from silence_gateway.errors import ConfigError
from silence_gateway.rls.settings import HeaderNames, RlsSettings

RULES = "domain: shop\ndescriptors: [{key: a, rate_limit: {unit: day, requests_per_unit: 1}}]\n"


def section(tmp_path: Path, more: str = "", rules: str = RULES) -> RlsConfig:
    (tmp_path / "rules.yaml").write_text(rules)
    text = f"rls: {{listen: 127.0.0.1:9901, config: rules.yaml{more}}}"
    config = load_text(text, tmp_path / "g.yaml", {}).config.rls
    assert config is not None
    return config


def test_a_gateway_may_serve_nothing_else(tmp_path: Path) -> None:
    config = section(tmp_path)

    assert str(config.listen) == "127.0.0.1:9901"
    assert config.json_listen is None
    assert config.config == tmp_path / "rules.yaml"


def test_it_behaves_as_envoyproxy_ratelimit_unless_told_otherwise(tmp_path: Path) -> None:
    assert rls_settings(section(tmp_path)) == RlsSettings()


def test_everything_that_is_set_reaches_the_service(tmp_path: Path) -> None:
    more = (
        ", json: 127.0.0.1:2, headers: true, request_headers: {limit: X-L, reset: X-R}, shadow_mode: true,"
        " quota_mode: true, near_limit_ratio: 0.5, local_cache: 7, dynamic_metadata: true,"
        " negative_hits: true"
    )

    assert rls_settings(section(tmp_path, more)) == RlsSettings(
        headers=HeaderNames(),
        request_headers=HeaderNames(limit="X-L", reset="X-R"),
        shadow_mode=True,
        quota_mode=True,
        near_limit_ratio=0.5,
        local_cache=7,
        dynamic_metadata=True,
        negative_hits=True,
    )


def test_problems_of_the_rules_are_told_with_those_of_the_gateway(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("workers: 0\nrls: {json: 127.0.0.1:9902, config: rules.yaml}")
    (tmp_path / "rules.yaml").write_text("domain: shop\ndescriptor: []\ndescriptors: [{kye: a}]")

    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "g.yaml", {})
    assert caught.value.problems == (
        f"{tmp_path}/g.yaml:1:10: workers: '0' is too small: the least is 1",
        f"{tmp_path}/rules.yaml:2:1: unknown key 'descriptor' in the file (did you mean 'descriptors'?)",
        f"{tmp_path}/rules.yaml:3:15: a descriptor needs a 'key', such as key: remote_address",
        f"{tmp_path}/rules.yaml:3:16: unknown key 'kye' in a descriptor (did you mean 'key'?)",
    )


def test_what_may_surprise_in_the_rules_is_a_warning_of_the_gateway(tmp_path: Path) -> None:
    section(tmp_path, rules=RULES + "unit: day\n")

    loaded = load_text("rls: {json: 127.0.0.1:1, config: rules.yaml}", tmp_path / "g.yaml", {})
    assert loaded.warnings == (
        f"{tmp_path}/rules.yaml:3:1: 'unit' does nothing here: it belongs into rate_limit",
    )


def test_rules_that_may_not_be_looked_at_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", denied)
    with pytest.raises(ConfigError, match=r"g.yaml:1:39: .* cannot be read: Permission denied"):
        section(tmp_path)
