"""Where to listen, and errors that say what to do."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trustme

from silence_gateway.edge.listen import Address, explain, open_sockets, parse_listen, server_tls
from silence_gateway.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address(host="127.0.0.1", port=8080)),
        ("localhost:0", Address(host="localhost", port=0)),
        ("[::1]:8080", Address(host="::1", port=8080)),
        ("unix:/run/s.sock", Address(path="/run/s.sock")),
    ],
)
def test_addresses_are_read_and_written_alike(text: str, address: Address) -> None:
    assert parse_listen(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "8080", ":8080", "host:", "host:http", "host:65536", "::1:80", "unix:", "a:-1", "a:٣"]
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_listen(text)

    assert repr(text) in str(raised.value)


def test_a_port_in_use_is_named_and_nothing_stays_open() -> None:
    (first,) = open_sockets(["127.0.0.1:0"], reuse_port=False)
    taken = f"127.0.0.1:{first.getsockname()[1]}"
    with pytest.raises(ConfigError, match=f"cannot listen on {taken}: the address is in use"):
        open_sockets(["127.0.0.1:0", taken], reuse_port=False)
    first.close()


def test_several_may_share_a_port_if_all_say_so() -> None:
    (first,) = open_sockets(["127.0.0.1:0"], reuse_port=True)
    (second,) = open_sockets([f"127.0.0.1:{first.getsockname()[1]}"], reuse_port=True)

    assert first.getsockname() == second.getsockname()
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("no-such-host.invalid:80", "is no address of this machine"),
        ("203.0.113.7:0", "no interface of this machine has that address"),
        ("unix:/no/such/dir/s", "its directory does not exist"),
    ],
)
def test_an_address_that_is_not_ours_is_named(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_sockets([address], reuse_port=False)


def test_a_missing_permission_says_what_to_do() -> None:
    denied = PermissionError(13, "Permission denied")

    assert "1024" in explain(Address(host="127.0.0.1", port=80), denied)
    assert "directory's permissions" in explain(Address(path="/s"), denied)
    assert "strange" in explain(Address(path="/s"), OSError(99_999, "strange"))


def test_a_unix_socket_of_a_dead_process_is_replaced_but_not_one_of_a_live_one(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 's'}"
    (first,) = open_sockets([place], reuse_port=False)
    with pytest.raises(ConfigError, match="in use"):
        open_sockets([place], reuse_port=False)
    first.close()
    (second,) = open_sockets([place], reuse_port=False)

    assert second.family == socket.AF_UNIX
    second.close()


def test_a_file_is_never_taken_for_an_old_socket(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(ConfigError, match="in use"):
        open_sockets([f"unix:{tmp_path / 's'}"], reuse_port=False)

    assert (tmp_path / "s").read_text() == "precious"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    for name in ("a", "b"):
        leaf = authority.issue_cert(name)
        leaf.private_key_pem.write_to_path(made / f"{name}.key")
        leaf.cert_chain_pems[0].write_to_path(made / f"{name}.crt")
    (made / "junk").write_text("junk")
    return made


@pytest.mark.parametrize(
    ("certificate", "key", "client_ca", "message"),
    [
        ("none", "a.key", None, "tls.certificate: there is no file"),
        ("a.crt", "none", None, "tls.key: there is no file"),
        ("a.crt", "a.key", "none", "tls.client_ca: there is no file"),
        ("a.crt", "b.key", None, "cannot be used together"),
        ("junk", "a.key", None, "cannot be used together"),
        ("a.crt", "a.key", "junk", "has no PEM certificate"),
    ],
)
def test_tls_files_that_do_not_fit_are_named(
    folder: Path, certificate: str, key: str, client_ca: str | None, message: str
) -> None:
    places = [None if name is None else os.fspath(folder / name) for name in (certificate, key, client_ca)]
    with pytest.raises(ConfigError, match=message):
        server_tls(*places)  # type: ignore[arg-type]
