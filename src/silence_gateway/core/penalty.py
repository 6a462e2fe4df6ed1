"""
Blocks: for how long a key that was refused stays refused.

Pure, and the same for every algorithm. The Lua twin is `with_block` in
`stores/scripts/limits/decide.lua`; `tests/agreement` holds both to the same numbers. A block begins with
a refusal; refusals while it holds do not prolong it, so that its end can be told in advance.
"""

from __future__ import annotations

from silence_gateway.core.limits import NEVER, Decision, LimitRule


def standing_block(rule: LimitRule, until_us: int, now_us: int) -> int:
    """Return until when a remembered block holds: one that ends too late was written by another clock."""
    return until_us if now_us < until_us <= now_us + rule.block_us else 0


def with_block(
    rule: LimitRule, until_us: int, now_us: int, cost: int, decision: Decision
) -> tuple[Decision, int]:
    """Lay a standing block (0 for none) over *decision*; returns the answer, and until when a block holds."""
    _, limit, remaining, retry_us, reset_us, at_us = decision
    if until_us > now_us:
        left_us = until_us - now_us
        reset_us = max(reset_us, left_us)
        if cost and retry_us != NEVER:
            retry_us = max(retry_us, left_us)
        return Decision(not cost, limit, 0, retry_us if cost else 0, reset_us, at_us), until_us
    if retry_us > 0:
        retry_us, reset_us = max(retry_us, rule.block_us), max(reset_us, rule.block_us)
        return Decision(False, limit, 0, retry_us, reset_us, at_us), now_us + rule.block_us
    return Decision(decision.allowed, limit, remaining, retry_us, reset_us, at_us), 0
