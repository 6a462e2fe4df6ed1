"""The dump of a configuration in force: every value, and where it came from."""

from __future__ import annotations

from pathlib import Path

from silence_gateway.app.config.load import load, load_text

TEXT = """
upstreams:
  shop:
    endpoints:
      - 127.0.0.1:9001
      - address: "${HOST}:9002"
workers: "${WORKERS:-2}"
name: file:name.txt
limits: [{name: l, match: {any: true}, rate: 60/m}]
"""


def test_every_value_says_where_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "name.txt").write_text("fleet-7\n")
    (tmp_path / "g.yaml").write_text(TEXT)

    told = load(tmp_path / "g.yaml", {"HOST": "h"}).describe()

    origins = told["origins"]
    assert origins["upstreams.shop.endpoints.0.address"] == "g.yaml:5"
    assert origins["upstreams.shop.endpoints.1.address"] == "env HOST (g.yaml:6)"
    assert origins["workers"] == "env WORKERS (g.yaml:7)"
    assert origins["name"] == "file name.txt (g.yaml:8)"
    assert origins["limits.0.rate"] == "g.yaml:9"
    assert origins["server.drain"] == "default"
    assert origins["realtime"] == "default"
    assert told["config"]["name"] == "fleet-7"


def test_the_dump_is_written_as_the_file_would_be() -> None:
    told = load_text(TEXT.replace("file:name.txt", "n"), "g.yaml", {"HOST": "h"}).describe()["config"]

    assert told["server"]["header_timeout"] == "10s"
    assert told["server"]["max_body"] == "4MiB"
    assert told["limits"][0]["rate"] == "60/m"
    assert [one["address"] for one in told["upstreams"]["shop"]["endpoints"]] == ["127.0.0.1:9001", "h:9002"]


def test_a_dump_without_secrets_reads_back_as_the_same_configuration() -> None:
    import yaml

    first = load_text(TEXT.replace("file:name.txt", "n"), "g.yaml", {"HOST": "h"})

    again = load_text(yaml.safe_dump(first.describe()["config"]), "g.yaml", {})

    assert again.config == first.config
    assert again.digest == first.digest
