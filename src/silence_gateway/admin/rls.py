"""The rate limit service on the admin API: the rules in force."""

from __future__ import annotations

from silence_gateway.admin.contracts import Ask
from silence_gateway.admin.local import LocalInstance
from silence_gateway.core.rls_dump import as_text, as_values
from silence_gateway.errors import BadRequest
from silence_gateway.rls.service import RateLimitService


def serve_rls(instance: LocalInstance, service: RateLimitService) -> None:
    """Answer `rls/rules` for *service*."""

    async def rules(ask: Ask) -> object:
        form = ask.query.get("form", "file")
        if form not in {"file", "text"}:
            raise BadRequest(f"{form[:20]!r} is no form of rules: use file or text")
        return as_text(service.rules) if form == "text" else as_values(service.rules)

    instance.serve("GET", "rls/rules", rules)
