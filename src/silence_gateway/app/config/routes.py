"""Routes of the file: what is special about requests to a path."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from silence_gateway.app.config.kinds import NAME, Flag, choice, duration, pattern
from silence_gateway.app.config.matching import RouteMatch
from silence_gateway.app.config.section import Section

AuthMode = Literal["none", "optional", "required"]
AUTH_MODE = choice("none", "optional", "required")
ImportanceWord = Literal["low", "normal", "high"]
IMPORTANCE = choice("low", "normal", "high")
BEGINNING = pattern(
    "path to put in place of another",
    r"/|(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9\-._~!$&'()+,;=@:]+)+",
    "/v2",
    "begin it with '/', and leave out '..', a query, and a slash at its end",
)


class RouteConfig(Section):
    """
    One route.

    gRPC methods with HTTP rules are served without one; a route changes what applies to them.
    """

    match: RouteMatch = Field(description="Which requests this is about; the most specific path counts.")
    upstream: Annotated[str, NAME] | None = Field(
        default=None, description="Name of the upstream; absent: whichever serves the path."
    )
    timeout_s: Annotated[float, duration("1ms", "24h")] | None = Field(
        default=None,
        alias="timeout",
        description="Longest time a call may take; absent: the upstream's timeout.",
    )
    importance: Annotated[ImportanceWord, IMPORTANCE] | None = Field(
        default=None,
        description="Who goes first when an upstream with `shedding` has too much to do; absent: `normal`.",
    )
    auth: Annotated[AuthMode, AUTH_MODE] | None = Field(
        default=None, description="Who may call; absent: `required` if `auth` is configured, else `none`."
    )
    idempotent: Flag | None = Field(
        default=None,
        description=(
            "Whether a call may run twice, which retries and hedging need; absent: GET and HEAD may, methods "
            "with the option `idempotency_level`, and to HTTP upstreams OPTIONS, PUT and DELETE."
        ),
    )
    rewrite: Annotated[str, BEGINNING] | None = Field(
        default=None,
        description=(
            "HTTP upstreams: what takes the place of all before the `**` of `path`; `/` takes it away. "
            "Absent: the service is asked for the path as it came."
        ),
    )
