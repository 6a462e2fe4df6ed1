"""Who may come in: tokens, secrets, sessions and the pages they come from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import SecretStr

from silence_gateway.app.config.checks.finding import Context, Finding, Steps
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.quantities import quoted, show_duration
from silence_gateway.app.config.realtime import ANY_ORIGIN

# RFC 7518 section 3.2: a key of HS256 has at least the size of the hash.
MIN_HS256_BYTES = 32
NAMESPACE = re.compile(r"(?:[A-Za-z0-9_-]{2,64})?")


def check_auth(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find ways of proving an identity that prove nothing."""
    if config.auth is None:
        return
    jwt = config.auth.jwt
    if jwt is None and config.auth.api_keys is None:
        yield Finding(
            at=("auth",),
            says="auth needs the key 'jwt', which says how tokens are verified, or 'api_keys'",
            about=(("auth", "jwt"), ("auth", "api_keys")),
        )
    if jwt is None:
        return
    if jwt.hmac_secret is None:
        yield Finding(
            at=("auth", "jwt"),
            says="'hmac_secret' is missing or empty: nothing could be verified",
            about=(("auth", "jwt", "hmac_secret"),),
        )
    yield from check_secret(("auth", "jwt", "hmac_secret"), jwt.hmac_secret, warning=False)
    if not jwt.algorithms:
        yield Finding(
            at=("auth", "jwt", "algorithms"),
            says="the list is empty: write [HS256], or leave the key out",
            about=(("auth", "jwt", "algorithms"),),
        )


def check_secret(at: Steps, secret: SecretStr | None, *, warning: bool) -> Iterator[Finding]:
    """Find a signing secret that can be guessed."""
    if secret is not None and len(secret.get_secret_value().encode()) < MIN_HS256_BYTES:
        yield Finding(
            at=at,
            says=(
                f"the secret is shorter than the {MIN_HS256_BYTES} bytes of a good HS256 key: "
                "it can be guessed; openssl rand -hex 32 makes one"
            ),
            warning=warning,
        )


def check_realtime(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find realtime settings under which nobody, or everybody, gets in."""
    realtime = config.realtime
    if realtime is None:
        return
    at: Steps = ("realtime",)
    secret = realtime.tokens.hmac_secret if realtime.tokens is not None else None
    if secret is None and not realtime.anonymous:
        yield Finding(
            at=at,
            says="nobody could connect: set tokens.hmac_secret, or anonymous: true",
            about=((*at, "tokens"), (*at, "tokens", "hmac_secret"), (*at, "anonymous")),
        )
    # Chat back ends in the field use short ones, and their clients could not connect any more.
    yield from check_secret((*at, "tokens", "hmac_secret"), secret, warning=True)
    if "*" in realtime.path:
        yield Finding(at=(*at, "path"), says=f"{quoted(realtime.path)} must be one path, without *")
    for index, origin in enumerate(realtime.origins):
        if origin == ANY_ORIGIN:
            yield Finding(
                at=(*at, "origins", index),
                says="any web page may connect with its visitor's cookies: list your own origins",
                warning=True,
            )
    if realtime.sessions.ttl_s < 2 * realtime.ping_s:
        yield Finding(
            at=(*at, "sessions", "ttl"),
            says=(
                f"sessions would be forgotten between two pings ({show_duration(realtime.ping_s)} apart): "
                "make ttl at least twice as long"
            ),
            about=((*at, "ping"),),
        )
    for name in realtime.namespaces:
        if not NAMESPACE.fullmatch(name):
            yield Finding(
                at=(*at, "namespaces", name),
                says=f"{quoted(name)} is not a namespace: use 2 to 64 letters, digits, '-' and '_'",
            )
