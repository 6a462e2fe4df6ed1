"""
From the configuration to the parts that find out who calls, and who may.

Used by `build.py`, and by `explain.py`, which lets requests meet the same parts without serving any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from silence_gateway.app.config.api_keys import read_key_file
from silence_gateway.app.config.auth import JwtConfig
from silence_gateway.app.config.document import MAX_BYTES
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.clock import Clock
from silence_gateway.core.api_keys import KeyRing
from silence_gateway.core.http import Layer, Request
from silence_gateway.events import Observer, nobody
from silence_gateway.file_watch import FileWatch
from silence_gateway.layers.authenticate import ApiKeys, JwtSettings, Mode, authenticate
from silence_gateway.layers.route import Matched
from silence_gateway.limiting.access import AccessLists
from silence_gateway.stores.contracts import Board


def access_lists(
    config: GatewayConfig, board: Board, clock: Clock, observer: Observer = nobody
) -> AccessLists:
    """
    Return the allow and deny lists.

    Raises:
        ConfigError: A list file cannot be used.
    """
    access = config.access
    return AccessLists(
        board,
        clock,
        allow=[str(network) for network in access.allow],
        deny=[str(network) for network in access.deny],
        allow_files=access.allow_files,
        deny_files=access.deny_files,
        observer=observer,
    )


def auth_mode(request: Request) -> Mode | None:
    """Return what a request's route says about proof; realtime has tokens and keys of its own."""
    matched = request.matched
    if not isinstance(matched, Matched):
        return None
    if matched.fixed is not None:
        return "none"
    if matched.rule is None:
        return None
    modes: dict[str, Mode] = {"none": "none", "optional": "optional", "required": "required"}
    return modes.get(matched.rule.auth)


@dataclass(frozen=True, slots=True)
class Door:
    """
    What asks callers who they are.

    Attributes:
        layer: Does so for every request.
        key_file: Follows the file of API keys; None without one.
    """

    layer: Layer
    key_file: FileWatch[KeyRing, KeyRing] | None


def door(
    config: GatewayConfig,
    clock: Clock,
    observer: Observer = nobody,
    *,
    mode_of: Callable[[Request], Mode | None] = auth_mode,
) -> Door | None:
    """
    Return what asks callers who they are; None if nobody has to say.

    *mode_of* tells what a request's route says about that.

    Raises:
        ConfigError: The file of API keys cannot be used.
    """
    auth = config.auth
    if auth is None:
        return None
    tokens = jwt_settings(auth.jwt) if auth.jwt is not None else None
    if auth.api_keys is None:
        return Door(authenticate(tokens, clock, mode_of=mode_of), None)
    keys = ApiKeys(auth.api_keys.header, required=auth.api_keys.required)
    path = auth.api_keys.file

    def use(ring: KeyRing) -> None:
        keys.ring = ring

    watch: FileWatch[KeyRing, KeyRing] = FileWatch(
        [path],
        read=read_key_file,
        join=lambda rings: rings[path],
        use=use,
        clock=clock,
        max_bytes=MAX_BYTES,
        observer=observer,
    )
    watch.load()
    return Door(authenticate(tokens, clock, keys=keys, mode_of=mode_of), watch)


def jwt_settings(config: JwtConfig) -> JwtSettings:
    """Return which tokens are good."""
    assert config.hmac_secret is not None
    return JwtSettings(
        hmac_secret=config.hmac_secret.get_secret_value(),
        algorithms=config.algorithms,
        audience=config.audience,
        issuer=config.issuer,
        required=config.required,
    )
