"""
The admin API of one process: a table of paths and who answers them.

The engines' own answers are registered by `app/build.py`; their JSON is made in the files beside this.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import unquote

from silence_gateway.admin.contracts import Answer, Ask, AskHandler, Readiness
from silence_gateway.errors import BadRequest, ConfigError, NotFound, StoreFault
from silence_gateway.watch.families import Family

_CAPTURE = re.compile(r"\{([a-z_]+)(\*?)\}")


def pattern_of(template: str) -> re.Pattern[str]:
    """Compile `limits/{name}/keys/{key}`; `{cidr*}` captures the rest, slashes and all."""
    out = ""
    end = 0
    for found in _CAPTURE.finditer(template):
        out += re.escape(template[end : found.start()])
        out += f"(?P<{found[1]}>{'.+' if found[2] else '[^/]+'})"
        end = found.end()
    return re.compile(out + re.escape(template[end:]))


class LocalInstance:
    """One process's gateway, as the admin listener sees it."""

    def __init__(
        self,
        readiness: Callable[[], Readiness],
        families: Callable[[], list[Family]],
    ) -> None:
        self._readiness = readiness
        self._families = families
        self._table: list[tuple[str, re.Pattern[str], AskHandler, bool]] = []

    def serve(self, method: str, template: str, handler: AskHandler, *, takes_list: bool = False) -> None:
        """Answer *method* on *template* (see `pattern_of`) by *handler*; *takes_list*: it reads `items`."""
        self._table.append((method, pattern_of(template), handler, takes_list))

    async def readiness(self) -> Readiness:
        """Say whether traffic may come."""
        return self._readiness()

    async def families(self) -> list[Family]:
        """Return every metric."""
        return self._families()

    async def call(self, ask: Ask) -> Answer:
        """Answer one call."""
        allowed: list[str] = []
        for method, pattern, handler, takes_list in self._table:
            found = pattern.fullmatch(ask.path)
            if found is None:
                continue
            if method != ask.method:
                allowed.append(method)
                continue
            if ask.items is not None and not takes_list:
                return Answer(400, {"error": "the body may be a list only where several things are changed"})
            captured = {name: unquote(value) for name, value in found.groupdict().items()}
            return await _answered(handler(replace(ask, captured=captured)))
        if allowed:
            return Answer(405, {"error": f"use {', '.join(sorted(set(allowed)))}"})
        return Answer(404, {"error": f"nothing is served at /api/v1/{ask.path}"})


async def _answered(work: Awaitable[object]) -> Answer:
    try:
        return Answer(200, await work)
    except NotFound as exc:
        return Answer(404, {"error": str(exc)})
    except (BadRequest, ConfigError) as exc:
        return Answer(400, {"error": str(exc)})
    except StoreFault as exc:
        return Answer(503, {"error": str(exc)})
