"""The rules in force, for people: one line each, as envoyproxy/ratelimit does it, or in the file's form."""

from __future__ import annotations

from typing import Any

from silence_gateway.core.rls_rules import Branch, Level, Rule, RuleSet


def as_text(rules: RuleSet) -> str:
    """Return a line per rule: its full name, its limit and its modes."""
    return "".join(f"{name}: {rule_text(rule)}\n" for name, rule in rules.rules())


def rule_text(rule: Rule) -> str:
    """Return what a rule does, in one line."""
    limit = rule.limit
    unit, requests = ("UNKNOWN", 0) if limit is None else (limit.unit.name, limit.requests)
    said = (
        f"unit={unit} requests_per_unit={requests}, shadow_mode: {word(rule.shadow)},"
        f" quota_mode: {word(rule.quota)}"
    )
    if limit is None:
        return f"{said}, unlimited: true"
    return said if limit.multiplier == 1 else f"{said}, unit_multiplier: {limit.multiplier}"


def word(flag: bool) -> str:
    """Return a flag as the file writes it."""
    return "true" if flag else "false"


def as_values(rules: RuleSet) -> dict[str, Any]:
    """Return the rules as JSON values: a list of domains, each in the form of a file."""
    return {
        "domains": [
            {"domain": domain, "descriptors": level_values(level)} for domain, level in rules.domains.items()
        ]
    }


def level_values(level: Level) -> list[dict[str, Any]]:
    """Return the descriptors of one depth, and those below."""
    return [branch_values(branch) for branch in level.branches]


def branch_values(branch: Branch) -> dict[str, Any]:
    """Return one descriptor; what the file need not say is left out."""
    said: dict[str, Any] = {"key": branch.key}
    if branch.value:
        said["value"] = branch.value
    rule = branch.rule
    if rule is not None:
        said["rate_limit"] = limit_values(rule)
        flags = {
            "shadow_mode": rule.shadow,
            "quota_mode": rule.quota,
            "detailed_metric": rule.detailed_metric,
        }
        said |= {key: True for key, on in flags.items() if on}
    flags = {"value_to_metric": branch.value_to_metric, "share_threshold": branch.share_threshold}
    said |= {key: True for key, on in flags.items() if on}
    if rule is not None and rule.metadata:
        said["metadata"] = dict(rule.metadata)
    if branch.inner:
        said["descriptors"] = level_values(branch.inner)
    return said


def limit_values(rule: Rule) -> dict[str, Any]:
    """Return the `rate_limit` of a descriptor."""
    limit = rule.limit
    said: dict[str, Any] = {}
    if limit is None:
        said["unlimited"] = True
    else:
        said |= {"unit": limit.unit.name.lower(), "requests_per_unit": limit.requests}
        if limit.multiplier != 1:
            said["unit_multiplier"] = limit.multiplier
        if limit.name:
            said["name"] = limit.name
    if rule.replaces:
        said["replaces"] = [{"name": name} for name in rule.replaces]
    return said
