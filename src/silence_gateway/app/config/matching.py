"""Which requests a route or a limit is about, as the file says it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from silence_gateway.app.config.kinds import Flag, Kind, pattern
from silence_gateway.app.config.quantities import did_you_mean, quoted
from silence_gateway.app.config.section import Section
from silence_gateway.core.path_template import TemplateError, parse_template

# RFC 9110 allows more; these are the ones that anything behind us answers to.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def parse_path(text: str) -> str:
    """
    Check a path pattern: `/exact`, `/one/*/segment`, `/the/rest/**`.

    Raises:
        ValueError: If it is none.
    """
    if not text.startswith("/"):
        raise ValueError(
            f"{quoted(text)} is not a path: begin it with '/'{did_you_mean('/' + text) if text else ''}"
        )
    if "?" in text or "#" in text:
        raise ValueError(f"{quoted(text)} is not a path: leave out the query (from '?' or '#' on)")
    try:
        template = parse_template(text)
    except TemplateError as exc:
        raise ValueError(
            f"{quoted(text)} is not a path pattern: {exc.reason}; "
            "write /exact, /one/*/segment or /the/rest/**"
        ) from exc
    if template.variables:
        raise ValueError(f"{quoted(text)} is not a path pattern: write * for one segment, ** for the rest")
    return text


def parse_method(text: str) -> str:
    """
    Check the name of an HTTP method.

    Raises:
        ValueError: If it is none of `METHODS`.
    """
    if text in METHODS:
        return text
    hint = did_you_mean(text.upper()) if text.upper() in METHODS else ""
    raise ValueError(f"{quoted(text)} is not an HTTP method: choose from {', '.join(METHODS)}{hint}")


PATH = Kind("path pattern", parse_path, str, {"type": "string", "pattern": "/.*"}, ("/v1/things", "/v1/**"))
METHOD = Kind("HTTP method", parse_method, str, {"enum": list(METHODS)}, ("GET", "POST"))
RPC = pattern(
    "RPC name",
    r"(?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Za-z_][A-Za-z0-9_]*/[A-Za-z_][A-Za-z0-9_]*",
    "auth.AuthService/Login",
    "write package.Service/Method, as in auth.AuthService/Login",
)


class RouteMatch(Section):
    """Requests by path and method."""

    path: Annotated[str, PATH] = Field(
        description="Path, where `*` stands for one segment and a last `**` for the rest."
    )
    methods: tuple[Annotated[str, METHOD], ...] = Field(default=(), description="HTTP methods; empty: all.")


class LimitMatch(Section):
    """Requests by path and method, by RPC, or all of them."""

    path: Annotated[str, PATH] | None = Field(
        default=None, description="Path, where `*` stands for one segment and a last `**` for the rest."
    )
    methods: tuple[Annotated[str, METHOD], ...] = Field(default=(), description="HTTP methods; empty: all.")
    rpc: Annotated[str, RPC] | None = Field(
        default=None, description="One gRPC method, however it is called: package.Service/Method."
    )
    any: Flag = Field(default=False, description="Every request.")
