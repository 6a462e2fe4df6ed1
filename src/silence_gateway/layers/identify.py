"""Who asks: the client's address behind trusted proxies (`core/client_address.py`), and a request id."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import TypeAlias

from silence_gateway.core.client_address import ProxyWalker
from silence_gateway.core.http import Handler, Layer, Request, Response

REQUEST_ID = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")

FORWARDED = b"forwarded"
FORWARDED_FOR = b"x-forwarded-for"

MakeId: TypeAlias = Callable[[], str]


def identify(trusted_proxies: Iterable[str] = (), *, make_id: MakeId | None = None) -> Layer:
    """
    Set `client_ip` and `request_id`, and put the id on the answer.

    The peer of a unix socket counts as a trusted proxy if any are configured.

    Args:
        trusted_proxies: Networks whose forwarding headers are believed.
        make_id: Returns a new request id; each at most 128 token characters.
    """
    walker = ProxyWalker(trusted_proxies)
    make = make_id or request_ids()

    def layer(inner: Handler) -> Handler:
        # Acts before the inner handler only, so it hands on what that returns: no coroutine of its own.
        def handle(request: Request) -> Awaitable[Response]:
            headers = request.headers
            request.client_ip = walker.client_of(
                request.peer, headers.get(FORWARDED_FOR), headers.get(FORWARDED)
            )
            given = headers.get(b"x-request-id")
            if given is not None and REQUEST_ID.fullmatch(given):
                request.request_id = given.decode()
                request.extra_headers.append((b"X-Request-Id", given))
            else:
                request.request_id = made = make()
                request.extra_headers.append((b"X-Request-Id", made.encode()))
            return inner(request)

        return handle

    return layer


def request_ids() -> MakeId:
    """Return a maker of ids: a random part per process and a counter; 0.2 us each."""
    prefix = secrets.token_hex(8)
    numbers = count(1)

    def make() -> str:
        return f"{prefix}-{next(numbers):x}"

    return make
