"""
The admin listener: probes, metrics and the API, as one handler.

Without a token it is for this machine alone, so what a browser could be tricked into is refused: a Host
that is not an address or localhost (DNS rebinding) and a foreign Origin. With a token everything but
the probes needs it.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from silence_gateway.admin.contracts import Ask, Instance
from silence_gateway.core.http import Handler, Request, Response
from silence_gateway.watch.families import Family, Sample, render

API = "/api/v1/"
LONG_LIST = 1000
INDEX = b"""Silence Gateway: the admin listener

GET  /livez /readyz?verbose /healthz     probes
GET  /metrics                            Prometheus
GET  /api/v1/stats                       totals
GET  /api/v1/limits                      limits and how they are used; /api/v1/limits/{name} for all of one
GET  /api/v1/sessions?user=&channel=     WebSocket sessions
GET  /api/v1/upstreams                   endpoints, their health and calls; /api/v1/upstreams/{name} for all
GET  /api/v1/nodes                       live instances
GET  /api/v1/rls/rules /rlconfig         rules of the rate limit service, in the file's form and as text
GET  /api/v1/config                      the configuration in force, secrets masked
GET  /api/v1/access/deny                 lists; PUT and DELETE /api/v1/access/deny/{cidr}, PUT a list of many
POST /api/v1/drain                       finish what runs, take nothing new, and stop
"""


class AdminHandler:
    """
    Answers every request of the admin listener.

    Attributes:
        refused: Requests refused for a wrong or missing token.
    """

    def __init__(self, instance: Instance, token: str = "") -> None:
        self._instance = instance
        self._token = token.encode()
        self.refused = 0

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        path = request.path
        if request.method not in {"GET", "HEAD"} and not path.startswith(API):
            return _text(405, "use GET\n")
        if path == "/livez":
            return _text(200, "alive\n")
        if path in {"/readyz", "/healthz"}:
            return await self._ready(request)
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        if path == "/metrics":
            return await self._metrics()
        if path == "/rlconfig":
            return await self._rules()
        if path.startswith(API):
            return await self._api(request)
        if path == "/":
            return Response(200, [(b"content-type", b"text/plain; charset=utf-8")], INDEX)
        return _json(404, {"error": f"nothing is served at {path}; GET / lists what is"})

    async def _ready(self, request: Request) -> Response:
        readiness = await self._instance.readiness()
        text = readiness.word + "\n"
        if "verbose" in request.query:
            text += "".join(f"{name}: {said}\n" for name, said in readiness.parts.items())
        return _text(200 if readiness.serving else 503, text)

    def _refusal(self, request: Request) -> Response | None:
        if self._token:
            scheme, _, given = request.headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token):
                return None
            self.refused += 1
            answer = _json(401, {"error": "send the admin token: Authorization: Bearer <token>"})
            answer.headers.append((b"www-authenticate", b"Bearer"))
            return answer
        host = request.headers.get(b"host", b"").decode("latin-1")
        if request.peer and not _is_address(host):
            return _json(
                403, {"error": "without a token the admin API answers only to an IP address or localhost"}
            )
        origin = request.headers.get(b"origin", b"").decode("latin-1")
        if origin and urlsplit(origin).netloc != host:
            return _json(403, {"error": f"a page of {origin} may not use the admin API"})
        return None

    async def _metrics(self) -> Response:
        families = await self._instance.families()
        families.append(
            Family(
                "silence_admin_refused_total",
                "counter",
                "Admin requests refused for a wrong or missing token.",
                (Sample((), self.refused),),
            )
        )
        return Response(
            200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], render(families)
        )

    async def _rules(self) -> Response:
        """Show the rules where people who know envoyproxy/ratelimit look for them."""
        answer = await self._instance.call(Ask("GET", "rls/rules", {"form": "text"}))
        if answer.status == 200:
            return _text(200, answer.body)
        return _json(answer.status, answer.body)

    async def _api(self, request: Request) -> Response:
        try:
            query = in_lines(parse_qsl(request.query, keep_blank_values=True, max_num_fields=50))
        except ValueError as exc:
            return _json(400, {"error": f"the query cannot be read: {exc}"})
        said = _said(request.body)
        if said is None:
            return _json(
                400,
                {"error": "the body must be a JSON object of texts, numbers, true and false, or a list"},
            )
        items = said if isinstance(said, list) else None
        if isinstance(said, dict):
            query |= said
        caller = f"admin API from {request.peer}" if request.peer else "admin API"
        answer = await self._instance.call(
            Ask(request.method, request.path[len(API) :], query, items=items, caller=caller)
        )
        return _json(answer.status, answer.body)


def in_lines(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return query parameters by name; the values of one that came several times stand in lines."""
    query: dict[str, str] = {}
    for name, value in pairs:
        query[name] = f"{query[name]}\n{value}" if name in query else value
    return query


def _said(body: bytes) -> dict[str, str] | list[Any] | None:
    """Return what a body says: values as in the query, or a list; None if it is neither."""
    if not body:
        return {}
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(said, dict) and all(isinstance(value, str | int) for value in said.values()):
        # As the query would write them: true and false are words.
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in said.items()
        }
    return said if isinstance(said, list) else None


def _is_address(host: str) -> bool:
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _text(status: int, text: str) -> Response:
    return Response(status, [(b"content-type", b"text/plain; charset=utf-8")], text.encode())


def _json(status: int, body: object) -> Response:
    # Laying it out costs ten times the writing, which is a stall where the list is long.
    indent = None if isinstance(body, list) and len(body) > LONG_LIST else 1
    data = json.dumps(body, default=str, indent=indent).encode() + b"\n"
    return Response(status, [(b"content-type", b"application/json"), (b"cache-control", b"no-store")], data)


def admin_handler(instance: Instance, token: str = "") -> Handler:
    """Return the admin listener's handler for *instance*."""
    return AdminHandler(instance, token)
