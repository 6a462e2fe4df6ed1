"""
A limit in an app, as its author writes it: on requests, or on the messages of WebSockets.

Everything that can be wrong with it is said when it is made, which is when the program starts.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import TypeAlias

from silence_gateway.asgi.key import OWN, Key, KeyReader
from silence_gateway.asgi.protocol import Scope
from silence_gateway.core.limits import Algorithm, LimitRule, WhenDown
from silence_gateway.core.rates import Rate, parse_rate
from silence_gateway.limiting.cost import Cost
from silence_gateway.limiting.limit import Limit
from silence_gateway.limiting.limit_key import HEADER_NAME, IPV6_PREFIX
from silence_gateway.limiting.limit_spec import LimitSpec

CostOf: TypeAlias = "int | Callable[[Scope], int | Awaitable[int]]"
Exempt: TypeAlias = "Callable[[Scope], bool | Awaitable[bool]]"

# As FastAPI, Starlette and Litestar write a variable with a type: {name:int}, {rest:path}.
CONVERTER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*):([a-z]+)\}")
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.]+")
MAX_NAME = 64

MAX_WAIT_S = 30.0
"""Longer than any burst that a client is forgiven, shorter than proxies wait for a silent server."""


class OnExcess(StrEnum):
    """
    What happens to a message that is over its limit.

    CLOSE ends the connection with 4029 and says why. DROP throws the message away, and nobody hears of it.
    WAIT hands it over when it is allowed: until then nothing is read from that client.
    """

    CLOSE = "close"
    DROP = "drop"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """
    Where a limit applies.

    Attributes:
        path: A template, as in `/items/{id}` or `/v1/**`: `*` and `{name}` stand for one segment, a last
            `**` or `{name:path}` for the rest. It is the path that the app's routes see: below a mount,
            without the mount. None for every path.
        methods: HTTP methods; GET includes HEAD, and WEBSOCKET stands for handshakes. Empty for all.
        ipv6_prefix: How many bits of an IPv6 address are one client, 32 to 128.
        name: What callers and stored keys call it. A rate without one is named after where it applies,
            whom it counts and how much it lets through, so it begins anew when any of these changes.
    """

    path: str | None = None
    methods: Sequence[str] = ()
    ipv6_prefix: int = IPV6_PREFIX
    name: str = ""

    def spec_of(self, rule: LimitRule) -> LimitSpec:
        """
        Return what matches requests.

        Raises:
            TypeError: The methods are one text.
            ValueError: The path is no template.
        """
        if isinstance(self.methods, str):
            raise TypeError(f"methods are a list: methods=[{self.methods!r}]")
        methods = tuple(method.upper() for method in self.methods)
        path = None if self.path is None else in_our_words(self.path)
        return LimitSpec(rule=rule, key=("const",), path=path, any=path is None, methods=methods)


@dataclass(frozen=True, slots=True)
class RouteLimit(Placed):
    """
    A limit on requests and on handshakes of WebSockets.

    Attributes:
        limit: A rate such as `100/minute`, which becomes a sliding window, or a limit that was declared on
            the limiter: any algorithm, concurrency included. A place is held until the answer has ended.
        key: Whom it counts apart: `client_ip`, `user`, `method`, `path`, `header:NAME`, `const`, a
            function of the scope (async or not), or a list of them.
        cost: What one request spends: a number, or a function of the scope (async or not) that returns one;
            it may return 0.
        settle_by: A header of the answer that tells the real cost: `cost` is reserved, and the difference
            charged or given back when the answer is sent.
        exempt: A function of the scope (async or not): requests for which it is true are not counted.

    Raises:
        ValueError: A value is wrong, or two do not go together; the text says which.
    """

    limit: str | Limit
    key: Key = field(default="client_ip", kw_only=True)
    cost: CostOf = field(default=1, kw_only=True)
    settle_by: str = field(default="", kw_only=True)
    exempt: Exempt | None = field(default=None, kw_only=True)
    rule: LimitRule = field(init=False, repr=False, compare=False)
    spec: LimitSpec = field(init=False, repr=False, compare=False)
    reader: KeyReader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        reader = KeyReader(self.key, self.ipv6_prefix)
        if reader.own:
            raise ValueError(f"{OWN!r} counts the messages of one connection; it is no key for requests")
        rule = rule_of(self.limit, self.name, (*self.methods, self.path or "all"), reader)
        put = object.__setattr__
        put(self, "reader", reader)
        put(self, "rule", rule)
        put(self, "spec", self.spec_of(rule))
        check_cost(rule, self.cost, self.settle_by)


@dataclass(frozen=True, slots=True)
class MessageLimit(Placed):
    """
    A limit on the messages that clients send on WebSockets.

    Attributes:
        limit: As in `RouteLimit`; a rate.
        key: As in `RouteLimit`, and `connection` for each connection by itself, which is counted in this
            process and asks no store. Read once per connection.
        cost: What one message spends: a number, or a function of its text or bytes, such as `len`.
        on_excess: `close`, `drop` or `wait`. Waiting is no use for what costs more than the limit holds,
            so that closes.
        max_wait_s: How long a message may have to wait; one that would have to wait longer closes.
        exempt: As in `RouteLimit`; asked once per connection.

    Raises:
        ValueError: A value is wrong, or two do not go together; the text says which.
    """

    limit: str | Limit
    key: Key = field(default="client_ip", kw_only=True)
    cost: int | Callable[[str | bytes], int] = field(default=1, kw_only=True)
    on_excess: OnExcess | str = field(default=OnExcess.CLOSE, kw_only=True)
    max_wait_s: float = field(default=MAX_WAIT_S, kw_only=True)
    exempt: Exempt | None = field(default=None, kw_only=True)
    rule: LimitRule = field(init=False, repr=False, compare=False)
    spec: LimitSpec = field(init=False, repr=False, compare=False)
    reader: KeyReader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        reader = KeyReader(self.key, self.ipv6_prefix)
        rule = rule_of(self.limit, self.name, ("messages", self.path or "all"), reader)
        put = object.__setattr__
        put(self, "on_excess", OnExcess(self.on_excess))
        put(self, "reader", reader)
        put(self, "rule", rule)
        put(self, "spec", self.spec_of(rule))
        if self.methods:
            raise ValueError("messages have no methods")
        if not 0 < self.max_wait_s < float("inf"):
            raise ValueError(f"max_wait_s is a number of seconds above 0, not {self.max_wait_s}")
        check_message_cost(rule, self.cost)


def in_our_words(path: str) -> str:
    """Return a template of a web framework as ours: the types of its variables left out."""
    return CONVERTER.sub(lambda found: "{" + found[1] + ("=**}" if found[2] == "path" else "}"), path)


def rule_of(limit: str | Limit, name: str, places: Sequence[str], reader: KeyReader) -> LimitRule:
    """
    Return the rule of a limit.

    Args:
        limit: A declared one, or a rate.
        name: What to call a rate; empty for a name made of the rest.
        places: Where it applies.
        reader: Whom it counts.

    Raises:
        ValueError: It is no rate, or a declared limit was to get another name.
    """
    if isinstance(limit, Limit):
        if name not in {"", limit.rule.name}:
            raise ValueError(f"limit {limit.rule.name} is declared by that name; it is not {name!r}")
        return limit.rule
    rate = parse_rate(limit)
    return LimitRule(
        name=name or rate_name(places, rate, reader),
        algorithm=Algorithm.SLIDING_WINDOW,
        rate=rate,
        # Nobody shares a connection, so there is nothing to divide.
        when_down=WhenDown.LOCAL_FULL if reader.own else WhenDown.LOCAL_SHARE,
    )


def rate_name(places: Sequence[str], rate: Rate, reader: KeyReader) -> str:
    """Return what to call a rate: where it applies, how much it lets through, whom it counts."""
    number, _, window = str(rate).partition("/")
    return name_of([*places, number, "per", window, *(["by", reader.label] if reader.label else [])])


def name_of(words: Sequence[str]) -> str:
    """Return words as the name of a limit: the same words give the same name in every process."""
    name = "-".join(filter(None, (NOT_IN_NAMES.sub("-", word).strip("-_.").lower() for word in words)))
    if len(name) <= MAX_NAME:
        return name
    digest = blake2b(name.encode(), digest_size=5).hexdigest()
    return f"{name[: MAX_NAME - 1 - len(digest)]}-{digest}"


def check_cost(rule: LimitRule, cost: object, settle_by: str) -> None:
    """
    Refuse a cost that no request could ever spend.

    Raises:
        ValueError: It is that.
    """
    if rule.kind == "c" and (cost != 1 or settle_by):
        raise ValueError(f"limit {rule.name}: a request takes one place of a concurrency limit: no cost")
    if isinstance(cost, int) and not 1 <= cost <= rule.capacity:
        raise ValueError(f"limit {rule.name}: a cost of {cost} never fits in {rule.capacity}")
    if settle_by and not HEADER_NAME.fullmatch(settle_by):
        raise ValueError(f"limit {rule.name}: {settle_by[:80]!r} is no name of a header")


def check_message_cost(rule: LimitRule, cost: object) -> None:
    """
    Refuse what messages cannot be limited by.

    Raises:
        ValueError: It is that.
    """
    if rule.kind == "c":
        raise ValueError(f"limit {rule.name}: it gives places; messages are limited by a rate")
    check_cost(rule, cost, "")


def settlement_of(cost: object, settle_by: str) -> Cost | None:
    """Return how the cost that an answer tells is read; None where none is asked for."""
    if not settle_by:
        return None
    return Cost(amount=cost if isinstance(cost, int) else 1, answer_header=settle_by.lower().encode())
