"""What `silence check` calls good can run: certificates, keys and descriptors are read as well."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from silence_gateway.app.config.load import load_text
from silence_gateway.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("own", "other"):
        made = authority.issue_cert(f"{name}.test")
        made.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
        made.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
    (tmp_path / "locked.key").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    (tmp_path / "shop.proto").write_text('syntax = "proto3";\n')
    return tmp_path


def problems(folder: Path, text: str) -> list[str]:
    """Return what is wrong with a file of that text, without its own place."""
    try:
        load_text(text, folder / "g.yaml", {})
    except ConfigError as error:
        return [line.partition("g.yaml:")[2].replace(f"{folder}/", "") for line in error.problems]
    return []


UPSTREAM = "upstreams: {shop: {endpoints: [shop.test:9001], "
SECTIONS = {
    "upstream": UPSTREAM + "tls: {TLS}}}",
    "store": "store: {url: 'valkeys://store.test:6379', tls: {TLS}}\n" + UPSTREAM + "}}",
    "listener": "tls: {TLS}\n" + UPSTREAM + "}}",
}


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(
    ("files", "says"),
    [
        pytest.param("certificate: own.pem, key: own.key", [], id="good"),
        pytest.param(
            "certificate: own.pem, key: other.key",
            ["'other.key' is the key of another certificate than 'own.pem'"],
            id="not-a-pair",
        ),
        pytest.param(
            "certificate: own.key, key: own.pem",
            ["'own.key' holds no certificate in PEM form"],
            id="taken-for-each-other",
        ),
        pytest.param(
            "certificate: own.pem, key: locked.key",
            ["'locked.key' holds no private key in PEM form without a passphrase"],
            id="passphrase",
        ),
        pytest.param(
            "certificate: own.pem, key: own.key, CA: own.key",
            ["'own.key' holds no certificate in PEM form"],
            id="ca",
        ),
        pytest.param("certificate: own.pem, key: no.key", ["'no.key' does not exist"], id="not-there"),
    ],
)
def test_tls_files_that_cannot_be_used_are_named_with_what_is_wrong(
    folder: Path, section: str, files: str, says: list[str]
) -> None:
    told = files.replace("CA:", "client_ca:" if section == "listener" else "ca:")

    found = problems(folder, SECTIONS[section].replace("TLS", told))

    assert [line.split(": ", 1)[1] for line in found] == says


def test_descriptors_that_are_none_are_named_at_their_place(folder: Path) -> None:
    (line,) = problems(folder, UPSTREAM + "descriptors: [shop.proto]}}")

    assert line.startswith("1:")
    assert "shop.proto: is not a FileDescriptorSet; make one with protoc" in line
