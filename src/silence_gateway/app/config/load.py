"""From a file to a checked configuration, or to everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from pydantic import SecretStr, ValidationError

from silence_gateway.app.config import document
from silence_gateway.app.config.checks.balancing import check_balancing
from silence_gateway.app.config.checks.contents import check_contents
from silence_gateway.app.config.checks.files import check_files, problems_elsewhere
from silence_gateway.app.config.checks.finding import Check, Context, Finding
from silence_gateway.app.config.checks.http import check_http, check_rewrites
from silence_gateway.app.config.checks.identity import check_auth, check_realtime
from silence_gateway.app.config.checks.limits import check_limits
from silence_gateway.app.config.checks.listeners import check_admin, check_listeners, check_loops, check_trust
from silence_gateway.app.config.checks.retry import check_retry
from silence_gateway.app.config.checks.rls import check_rls, rule_lines
from silence_gateway.app.config.checks.store import check_store
from silence_gateway.app.config.checks.upstreams import (
    check_routes,
    check_something_to_serve,
    check_upstreams,
)
from silence_gateway.app.config.document import Broken, Node, Place
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.kinds import BASE, MASK
from silence_gateway.app.config.loaded import LoadedConfig, leaves
from silence_gateway.app.config.reading import LEFT, Problem, Reader, Reading
from silence_gateway.app.config.shape import Keys
from silence_gateway.errors import ConfigError
from silence_gateway.stores.url import StoreUrl

# After this many, the reader of the list has better things to do than to read on.
MAX_PROBLEMS = 100

EMPTY = (
    "the file is empty: the least a gateway needs is one upstream, such as\n"
    "upstreams:\n"
    "  shop:\n"
    "    endpoints: [127.0.0.1:9001]"
)

CHECKS: tuple[Check, ...] = (
    check_something_to_serve,
    check_listeners,
    check_loops,
    check_admin,
    check_trust,
    check_store,
    check_upstreams,
    check_http,
    check_rewrites,
    check_balancing,
    check_retry,
    check_routes,
    check_limits,
    check_auth,
    check_realtime,
    check_rls,
    check_files,
    check_contents,
)


def load(path: Path | str, environment: Mapping[str, str] | None = None) -> LoadedConfig:
    """
    Read and check the file at *path*.

    Args:
        path: The YAML file; paths in it are relative to its directory.
        environment: Where `${NAME}` is looked up; by default the process's environment.

    Raises:
        ConfigError: With every problem there is, each as `file:line:col: message`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ConfigError(f"{path} is a directory: name the YAML file in it")
        with path.open("rb") as file:
            data = file.read(document.MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    try:
        text = document.decode(data)
    except Broken as exc:
        raise ConfigError(line_for(path, exc.place, exc.message)) from exc
    return load_text(text, path, environment)


def load_text(
    text: str, path: Path | str = "gateway.yaml", environment: Mapping[str, str] | None = None
) -> LoadedConfig:
    """
    Check *text* as if it were the file at *path*, which need not exist.

    Raises:
        ConfigError: As for `load`.
    """
    path = Path(path)
    try:
        root = document.parse(text)
    except Broken as exc:
        raise ConfigError(line_for(path, exc.place, exc.message)) from exc
    if root is None:
        raise ConfigError(line_for(path, Place(1, 1), EMPTY))
    # Absolute, so that a process may change its directory later.
    base = path.parent.absolute()
    environment = os.environ if environment is None else environment
    reader = Reader(environment, base)
    config, problems, warnings = _assemble(root, reader, base)
    secrets = secrets_in(config) if config is not None else ()
    elsewhere = [] if config is None else list(problems_elsewhere(config, environment))
    rule_problems, rule_warnings = rule_lines(config) if config is not None else ([], [])
    if problems or elsewhere or rule_problems:
        problems.sort(key=lambda problem: problem.place)
        lines = [
            line_for(path, problem.place, problem.message, secrets) for problem in problems[:MAX_PROBLEMS]
        ]
        if len(problems) > MAX_PROBLEMS:
            lines.append(f"{path}: and {len(problems) - MAX_PROBLEMS} more problems")
        raise ConfigError(list(dict.fromkeys([*lines, *elsewhere, *rule_problems])))
    assert config is not None
    warned = [line_for(path, warning.place, warning.message, secrets) for warning in warnings]
    return LoadedConfig(config, path, reader.reading.origins, tuple(warned + rule_warnings))


def _assemble(
    root: Node, reader: Reader, base: Path
) -> tuple[GatewayConfig | None, list[Problem], list[Problem]]:
    values = reader.read_root(root)
    reading = reader.reading
    problems = list(reading.problems)
    if values is LEFT:
        return None, problems, []
    try:
        config = GatewayConfig.model_validate(values, context={BASE: base})
    except ValidationError as exc:
        # The walk has read every value by its kind already, so this is a rule that only pydantic knows.
        for error in exc.errors(include_url=False, include_input=False):
            steps = reading.original(tuple(error["loc"]))
            problems.append(Problem(reading.place_of(steps), error["msg"]))
        return None, problems, []
    written = root.entries.get("upstreams") if isinstance(root, document.Mapping) else None
    names = frozenset(written.entries) if isinstance(written, document.Mapping) else frozenset()
    found = [finding for check in CHECKS for finding in check(config, Context(names))]
    relevant = [finding for finding in found if not _hangs_on_a_problem(finding, reading)]
    as_problem = {
        warning: [
            Problem(reading.place_of(reading.original(f.at)), f.says)
            for f in relevant
            if f.warning is warning
        ]
        for warning in (False, True)
    }
    return config, problems + as_problem[False], as_problem[True]


def _hangs_on_a_problem(finding: Finding, reading: Reading) -> bool:
    """Whether the finding would be about a default that stands in for a mistake."""
    for steps in (finding.at, *finding.about):
        original = reading.original(steps)
        if any(original[:length] in reading.left_out for length in range(len(original) + 1)):
            return True
    # "Nothing in here" means little where something in here was left out.
    return any(left[: len(about)] == about for about in finding.about for left in reading.left_out)


def secrets_in(config: GatewayConfig) -> tuple[str, ...]:
    """Return every secret text of *config*, for making sure that none is ever shown."""
    found = []
    for _, value in leaves(config, Keys(GatewayConfig), ()):
        if isinstance(value, SecretStr):
            found.append(value.get_secret_value())
        elif isinstance(value, StoreUrl):
            found += [value.password, quote(value.password, safe="")]
    # Very short ones would black out letters everywhere; nothing we write repeats a secret on purpose.
    return tuple(secret for secret in found if len(secret) >= 6)


def line_for(path: Path, place: Place, message: str, secrets: tuple[str, ...] = ()) -> str:
    """Return one line of the report."""
    for secret in secrets:
        message = message.replace(secret, MASK)
    return f"{path}:{place.line}:{place.column}: {message}"
