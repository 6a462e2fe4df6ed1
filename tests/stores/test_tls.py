"""TLS towards the store: what is trusted, and when files are read again."""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.stores.certificates import Authority

from silence_gateway.errors import ConfigError
from silence_gateway.stores.tls import TlsContexts, TlsSettings, distrust


def test_a_store_is_verified_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    ca = Authority(tmp_path).ca
    context = TlsContexts(TlsSettings(ca=ca)).current()
    careless = TlsContexts(TlsSettings(ca=ca, verify=False)).current()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert careless.verify_mode is ssl.CERT_NONE


def test_only_the_named_authority_is_trusted(tmp_path: Path) -> None:
    context = TlsContexts(TlsSettings(ca=Authority(tmp_path).ca)).current()

    assert len(context.get_ca_certs()) == 1


def test_files_are_read_again_when_they_have_changed_and_not_before(tmp_path: Path) -> None:
    first, second = Authority(tmp_path / "a"), Authority(tmp_path / "b")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(first.ca.read_bytes())
    contexts = TlsContexts(TlsSettings(ca=ca))
    before = contexts.current()
    assert contexts.current() is before

    replacement = tmp_path / "new.pem"
    replacement.write_bytes(second.ca.read_bytes())
    replacement.replace(ca)
    after = contexts.current()

    assert after.get_ca_certs() != before.get_ca_certs()
    assert contexts.loads == 2


def test_lanes_that_ask_together_read_the_files_once(tmp_path: Path) -> None:
    contexts = TlsContexts(TlsSettings(ca=Authority(tmp_path).ca))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: contexts.current(), range(32)))

    assert len(set(map(id, found))) == 1
    assert contexts.loads == 1


def test_a_key_without_its_certificate_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="certificate and key go together"):
        TlsSettings(key=Path("key.pem"))


@pytest.mark.parametrize("content", [pytest.param(None, id="missing"), pytest.param("no PEM", id="no-pem")])
def test_a_file_that_is_of_no_use_is_named(tmp_path: Path, content: str | None) -> None:
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)

    with pytest.raises(ConfigError, match=r"ca\.pem cannot be (read|used)"):
        TlsContexts(TlsSettings(ca=ca)).current()


def test_a_key_of_another_certificate_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, _ = authority.client("one")
    _, key = authority.client("two")

    with pytest.raises(ConfigError, match=r"one\.pem cannot be used"):
        TlsContexts(TlsSettings(ca=authority.ca, certificate=certificate, key=key)).current()


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] x", "set store.tls.certificate and key"),
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] x", "check who signed store.tls.certificate"),
        ("[SSL: WRONG_VERSION_NUMBER] x", "or write valkey://"),
    ],
)
def test_what_openssl_says_is_said_with_what_to_do(said: str, remedy: str) -> None:
    assert remedy in distrust(ssl.SSLError(1, said))


def test_what_nobody_knows_is_said_as_it_is() -> None:
    assert distrust(ssl.SSLError(1, "something odd")).startswith("and we cannot agree on TLS:")
    assert "something odd" in distrust(ssl.SSLError(1, "something odd"))
