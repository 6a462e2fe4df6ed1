"""The doors of a gateway, and who gets which sockets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.load import load_text
from silence_gateway.app.listening import Sockets, close_doors, describe_doors, door_addresses, open_doors
from silence_gateway.errors import ConfigError
from silence_gateway.testing.ports import free_port


def config(tmp_path: Path, text: str) -> GatewayConfig:
    (tmp_path / "rules.yaml").write_text("domain: shop\n")
    return load_text(text, tmp_path / "g.yaml", {}).config


def names(sockets: Sockets) -> dict[str, list[object]]:
    return {door: [sock.getsockname() for sock in opened] for door, opened in sockets.items()}


def test_a_door_that_is_not_configured_is_not_there(tmp_path: Path) -> None:
    only_json = config(tmp_path, "listen: []\nrls: {json: '127.0.0.1:9902', config: rules.yaml}")

    assert door_addresses(only_json) == {"listen": [], "rls.json": ["127.0.0.1:9902"]}
    assert describe_doors(only_json) == "127.0.0.1:9902 (rls.json)"


def test_all_addresses_are_told(tmp_path: Path) -> None:
    all_doors = config(
        tmp_path,
        "listen: ['127.0.0.1:1', '127.0.0.1:2']\n"
        "rls: {listen: '127.0.0.1:3', json: '127.0.0.1:4', config: rules.yaml}",
    )

    assert (
        describe_doors(all_doors)
        == "127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3 (rls.listen), 127.0.0.1:4 (rls.json)"
    )


def test_each_worker_has_a_socket_of_its_own_on_a_port_and_shares_a_unix_socket(tmp_path: Path) -> None:
    port = free_port()
    text = f"listen: 127.0.0.1:{port}\nrls: {{listen: 'unix:{tmp_path}/rls.sock', config: rules.yaml}}"
    one, two = opened = open_doors(config(tmp_path, text), 2)
    try:
        assert (
            names(one)
            == names(two)
            == {
                "listen": [("127.0.0.1", port)],
                "rls.listen": [f"{tmp_path}/rls.sock"],
            }
        )
        assert one["listen"][0] is not two["listen"][0]
        assert one["rls.listen"][0] is two["rls.listen"][0]
    finally:
        close_doors(opened)


def test_nothing_stays_open_where_one_address_is_taken(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = (
            f"listen: 127.0.0.1:{port}\n"
            f"rls: {{listen: '127.0.0.1:{taken.getsockname()[1]}', config: rules.yaml}}"
        )
        with pytest.raises(ConfigError, match="cannot listen on"):
            open_doors(config(tmp_path, text))
    with socket.create_server(("127.0.0.1", port)):
        pass
