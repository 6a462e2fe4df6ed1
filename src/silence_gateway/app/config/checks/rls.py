"""The rate limit service: somebody must be able to ask it, and its rules must be usable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from silence_gateway.app.config.checks.finding import Context, Finding, Steps
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.quantities import quoted_path
from silence_gateway.app.config.rls_files import load_rules
from silence_gateway.errors import ConfigError


def check_rls(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find a rate limit service that nobody can ask, and files of rules that are not there."""
    rls = config.rls
    if rls is None:
        return
    at: Steps = ("rls",)
    if rls.listen is None and rls.json_listen is None:
        yield Finding(
            at=at,
            says="nobody could ask it: set listen (gRPC, for Envoy), json, or both",
            about=((*at, "listen"), (*at, "json")),
        )
    trouble = trouble_with(rls.config)
    if trouble:
        yield Finding(at=(*at, "config"), says=f"{quoted_path(rls.config)} {trouble}")


def rule_lines(config: GatewayConfig) -> tuple[list[str], list[str]]:
    """Return the problems and warnings about the files of rules, each with its own file and place."""
    rls = config.rls
    if rls is None or trouble_with(rls.config):
        return [], []
    try:
        rules = load_rules(rls.config, merge_domains=rls.merge_domains)
    except ConfigError as exc:
        return list(exc.problems), []
    return [], list(rules.warnings)


def trouble_with(path: Path) -> str:
    """Return why there is nothing to read at *path*, or nothing."""
    try:
        return "" if path.exists() else "does not exist"
    except OSError as exc:
        return f"cannot be read: {exc.strerror or exc}"
