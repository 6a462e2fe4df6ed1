"""
Keys that are part of the file's form but do nothing in this version.

They are refused with a sentence of their own, because "unknown key" would send people looking for a
typing error. When a key starts to work, its model gets a field and its row here goes away; a test
holds both tables apart.
"""

from __future__ import annotations

# Path of the key, `*` for any name or list index, and what to do meanwhile.
LATER: dict[str, str] = {
    "routes.*.cors": "answer preflight requests in front of the gateway",
    "realtime.tokens.jwks": "use hmac_secret",
    "realtime.sessions.per_user": "sessions are not capped",
    "realtime.sessions.total": "sessions are not capped; server.max_connections bounds them",
    "realtime.sessions.on_excess": "sessions are not capped",
    "realtime.namespaces.*.history": "publications are not kept",
    "realtime.namespaces.*.recover": "publications are not kept",
    "realtime.rpc": "call the service over HTTP",
    "auth.jwt.jwks": "use hmac_secret",
    "cors": "answer preflight requests in front of the gateway",
    "telemetry.otlp": "scrape /metrics",
    "telemetry.sample": "nothing is traced",
    "telemetry.service_name": "nothing is traced",
}


def advice_for(path: tuple[str | int, ...]) -> str | None:
    """Return what to do instead of the key at *path*, or None if this table does not have it."""
    for pattern, advice in LATER.items():
        steps = pattern.split(".")
        if len(steps) == len(path) and all(
            step in {"*", str(part)} for step, part in zip(steps, path, strict=True)
        ):
            return advice
    return None
