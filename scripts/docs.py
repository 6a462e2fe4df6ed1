#!/usr/bin/env python3
"""
Write what the docs take from the code, and check the rest: `make docs`; with --check nothing is written.

Checked: every relative link and its anchor, every `yaml` block as `silence check` would (`yaml ratelimit` as
rules of the rate limit service), and that the reference pages name everything there is. Problems are printed
as file:line: message; then the exit code is 1. The blocks themselves are made in `docs_from_code.py`.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import trustme

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.docs_from_code import block, exposed, metric_names  # noqa: E402 - needs the path above

from silence_gateway.app.config import document  # noqa: E402
from silence_gateway.app.config.load import load_text  # noqa: E402
from silence_gateway.app.config.reference import reference_page  # noqa: E402
from silence_gateway.app.config.rls_files import read_rules  # noqa: E402
from silence_gateway.errors import ConfigError  # noqa: E402

WHOLE_PAGES = {"docs/reference/config.md": reference_page}

BLOCK = re.compile(r"(<!-- from the code: ([^\n]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
FILE_BLOCK = re.compile(r"(<!-- file: (\S+) -->\n```\w+\n).*?(^```$)", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)

# What a fragment of a configuration is completed with, so that it can be checked like a whole one.
SOMETHING_TO_SERVE = "\nupstreams: {cafe: {endpoints: [127.0.0.1:9001]}}\n"
# Files that configurations in the docs may name.
NAMED_FILES = {
    "blocked.txt": b"",
    "store-password": b"secret",
    "ratelimit.yaml": b"domain: shop\n",
    "keys.yaml": b"keys: []\n",
    "cafe.binpb": files("silence_gateway.app.sample").joinpath("cafe.binpb").read_bytes(),
}


@cache
def named_files() -> Mapping[str, bytes]:
    """Return NAMED_FILES and certificates that belong together, for they are read as well."""
    authority = trustme.CA()
    own = authority.issue_cert("gateway.test")
    return NAMED_FILES | {
        "cert.pem": own.cert_chain_pems[0].bytes(),
        "key.pem": own.private_key_pem.bytes(),
        "ca.pem": authority.cert_pem.bytes(),
        "clients.pem": authority.cert_pem.bytes(),
    }


class Problem(NamedTuple):
    """Something wrong, and where."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


class AnySecret(Mapping[str, str]):
    """An environment in which every variable is set, to something no check refuses."""

    def __getitem__(self, name: str) -> str:
        return "a-text-of-more-than-thirty-two-bytes"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __contains__(self, name: object) -> bool:
        return True


def pages() -> list[str]:
    """Return every page of the project, by its path from the root."""
    folders = (ROOT / "bench", ROOT / "examples")
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    found += [page for folder in folders for page in folder.glob("*.md")]
    return sorted(str(page.relative_to(ROOT)) for page in found)


def filled(page: str, text: str) -> str:
    """
    Return *text* with everything in it that comes from the code.

    Raises:
        KeyError: It asks for a block that nobody makes.
        OSError: It shows a file that is not there.
    """
    if page in WHOLE_PAGES:
        return WHOLE_PAGES[page]()
    text = BLOCK.sub(lambda found: f"{found[1]}{block(found[2])}\n{found[3]}", text)
    return FILE_BLOCK.sub(lambda found: f"{found[1]}{(ROOT / found[2]).read_text()}{found[3]}", text)


def line_at(text: str, place: int) -> int:
    """Return the number of the line in which *place* is."""
    return text.count("\n", 0, place) + 1


def prose(text: str) -> str:
    """Return *text* with code blanked out, lines kept: what looks like a link there is none."""
    blank = FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    return re.sub(r"`[^`\n]*`", lambda found: " " * len(found[0]), blank)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def check_links(page: str, text: str) -> Iterator[Problem]:
    """Find links that lead nowhere; addresses on the web are not looked at."""
    body = prose(text)
    for found in LINK.finditer(body):
        target, _, anchor = found[1].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (ROOT / page).parent / target if target else ROOT / page
        line = line_at(body, found.start())
        if not file.exists():
            yield Problem(page, line, f"there is no {target}")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
            yield Problem(page, line, f"{target or page} has no heading #{anchor}")


def check_yaml(page: str, text: str) -> Iterator[Problem]:
    """Find configurations and rules that `silence check` would refuse or warn about."""
    checks = {"yaml": wrong_with, "yaml ratelimit": wrong_with_rules}
    for found in FENCE.finditer(text):
        first = line_at(text, found.start()) + 1
        for where, message in checks[found[1]](found[2]) if found[1] in checks else ():
            yield Problem(page, first + where - 1, message)


def wrong_with_rules(yaml: str) -> list[tuple[int, str]]:
    """Return line and message of everything wrong with rules in envoyproxy/ratelimit's form."""
    try:
        said = read_rules([(Path("rules"), yaml.encode())]).warnings
    except ConfigError as exc:
        said = exc.problems
    return [
        (int(found[1]), found[2])
        for one in said
        if (found := re.match(r"rules:(\d+):\d+: (.*)", one, re.DOTALL))
    ]


def wrong_with(yaml: str) -> list[tuple[int, str]]:
    """Return line and message of everything wrong with a configuration or a part of one."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in named_files().items():
            Path(folder, name).write_bytes(content)
        path = Path(folder, "gateway.yaml")
        try:
            root = document.parse(yaml)
            keys = root.entries.keys() if isinstance(root, document.Mapping) else ()
            whole = yaml if {"upstreams", "realtime", "rls"} & set(keys) else yaml + SOMETHING_TO_SERVE
            said = load_text(whole, path, AnySecret()).warnings
        except ConfigError as exc:
            said = exc.problems
        except document.Broken as exc:
            return [(exc.place.line, exc.message)]
    lines = []
    for one in said:
        found = re.match(rf"{re.escape(str(path))}:(\d+):\d+: (.*)", one, re.DOTALL)
        lines.append((int(found[1]), found[2]) if found else (1, one))
    return lines


def check_completeness() -> Iterator[Problem]:
    """Find metrics and admin paths that the reference does not name."""
    page = "docs/reference/metrics.md"
    text = (ROOT / page).read_text()
    for name in sorted(metric_names()):
        if f"`{name}`" not in text:
            yield Problem(page, 1, f"{name} is missing")
    page = "docs/reference/admin-api.md"
    text = (ROOT / page).read_text()
    for method, template in exposed()[1]:
        path = template.replace("*}", "}")
        if f"`{method} /api/v1/{path}`" not in text:
            yield Problem(page, 1, f"`{method} /api/v1/{path}` is missing")


def problems_of(page: str) -> list[Problem]:
    """Return what is wrong with one page, what is out of date in it included."""
    text = (ROOT / page).read_text()
    found = [*check_links(page, text), *check_yaml(page, text)]
    try:
        fresh = filled(page, text)
    except (KeyError, OSError) as exc:
        found.append(Problem(page, 1, f"asks for what is not there: {exc}"))
    else:
        if fresh != text:
            same = 0
            for old, new in zip(text.splitlines(), fresh.splitlines(), strict=False):
                if old != new:
                    break
                same += 1
            found.append(Problem(page, same + 1, "is not what the code says; run make docs"))
    return found


def main(arguments: list[str]) -> int:
    """Write and check every page; returns the exit code."""
    if "--check" not in arguments:
        for page in pages():
            text = (ROOT / page).read_text()
            fresh = filled(page, text)
            if fresh != text:
                (ROOT / page).write_text(fresh)
                sys.stdout.write(f"{page}: written\n")
    found = [problem for page in pages() for problem in problems_of(page)]
    found += check_completeness()
    for problem in found:
        sys.stdout.write(f"{problem}\n")
    sys.stdout.write(f"{len(pages())} pages, {len(found)} problems\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
