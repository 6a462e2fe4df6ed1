"""Lists and keys in files of their own are read by `silence check`, with the place of every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from silence_gateway.app.cli import run_command

CONFIG = """
upstreams: {shop: {endpoints: [127.0.0.1:9001]}}
access: {allow_files: office.txt, deny_files: [deny.txt, deny.txt]}
auth: {api_keys: {file: keys.yaml}}
limits: [{name: a, match: {any: true}, rate: 1/s, key: [api_key]}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    (tmp_path / "office.txt").write_text("10.0.0.0/8\n")
    (tmp_path / "deny.txt").write_text("# nobody yet\n")
    (tmp_path / "keys.yaml").write_text("keys: []\n")
    return tmp_path


def check(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = run_command(["check", str(folder / "gateway.yaml")])
    return status, capsys.readouterr().out.splitlines()


def test_good_files_are_fine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, (line,) = check(folder, capsys)

    assert (status, "ok" in line) == (0, True)


def test_every_problem_of_every_file_is_told_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "gateway.yaml").write_text(CONFIG.replace("1/s", "1/parsec"))
    (folder / "office.txt").write_text("10.0.0.1/8\n")
    (folder / "deny.txt").write_text("fine.example\n\n::1\nx # y\n")
    (folder / "keys.yaml").write_text("keys: [{id: a, key: short}]\n")

    status, lines = check(folder, capsys)

    assert status == 1
    assert [line.rpartition(folder.name + "/")[2].partition(": ")[0] for line in lines] == [
        "gateway.yaml:5:46",
        "office.txt:1",
        "deny.txt:1",
        "deny.txt:4",
        "keys.yaml:1:21",
    ]
    assert "short" not in "".join(lines[-1:]).partition("shorter")[0]


def test_a_missing_file_is_told_where_it_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("office.txt", "deny.txt", "keys.yaml"):
        (folder / name).unlink()

    status, lines = check(folder, capsys)

    assert status == 1
    places = [line.rpartition("gateway.yaml")[2].partition(": ")[0] for line in lines]
    assert places == [":3:23", ":3:48", ":3:58", ":4:25"]
    assert all("does not exist" in line for line in lines)
