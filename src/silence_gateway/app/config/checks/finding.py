"""What a check reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from silence_gateway.app.config.gateway import GatewayConfig

Steps: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One thing that does not fit.

    Attributes:
        at: The value to point at.
        says: What is wrong and what to do.
        about: Other values it depends on; if one of them was wrong itself, the finding means nothing.
        warning: Whether the gateway runs all the same.
    """

    at: Steps
    says: str
    about: tuple[Steps, ...] = ()
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """
    What a check may know besides the models.

    Attributes:
        upstreams: Names of all upstreams in the file, also of those with mistakes inside.
    """

    upstreams: frozenset[str]


Check: TypeAlias = Callable[[GatewayConfig, Context], Iterator[Finding]]
