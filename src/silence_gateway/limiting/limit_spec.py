"""A limit as configured: its rule, the requests that it is about, and whom it counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from silence_gateway.core.limits import LimitRule
from silence_gateway.core.path_template import DOUBLE_STAR, Segment, parse_template
from silence_gateway.limiting.cost import ONE, Cost
from silence_gateway.limiting.limit_key import IPV6_PREFIX, KeyOf, compile_key, shows_secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSpec:
    """
    One limit of a gateway.

    Attributes:
        rule: What is counted and how.
        key: Whom it counts apart: `client_ip`, `user`, `api_key`, `claim:NAME`, `header:NAME`, `method`,
            `route`, `path`, `const`.
        ipv6_prefix: How many bits of an IPv6 address are one client, 32 to 128.
        path: Requests by path: literals, `*` or `{name}` for one segment, a last `**` for the rest. A
            method whose HTTP rule has such a path is meant as well when it is called by its name.
        methods: With `path` or `any`: HTTP methods; empty means all. GET includes HEAD.
        rpc: Requests by what they call: `package.Service/Method`.
        any: All requests.
        cost: What one request spends.
        key_of: Derived: reads the key from a request.
        hides_keys: Derived: the key may hold a secret, so statistics show its hash.

    Raises:
        ValueError: If it matches in no way or in several, or a part cannot be read.
    """

    rule: LimitRule
    key: tuple[str, ...] = ("client_ip",)
    ipv6_prefix: int = IPV6_PREFIX
    path: str | None = None
    methods: tuple[str, ...] = ()
    rpc: str | None = None
    any: bool = False
    cost: Cost = ONE
    key_of: KeyOf = field(init=False, repr=False, compare=False)
    hides_keys: bool = field(init=False, repr=False)
    segments: tuple[Segment, ...] = field(init=False, repr=False)
    verb: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        name = self.rule.name
        ways = (self.path is not None) + (self.rpc is not None) + self.any
        if ways != 1:
            raise ValueError(f"limit {name}: say which requests it is about by one of path, rpc or any")
        if self.cost.fixed and not 1 <= self.cost.amount <= self.rule.capacity:
            raise ValueError(f"limit {name}: a cost of {self.cost.amount} never fits in {self.rule.capacity}")
        if self.cost != ONE and self.rule.kind == "c":
            raise ValueError(f"limit {name}: a request takes one place of a concurrency limit: no cost")
        methods = frozenset(self.methods)
        if "GET" in methods:
            methods |= {"HEAD"}
        put = object.__setattr__
        put(self, "methods", tuple(sorted(methods)))
        put(self, "key_of", compile_key(self.key, self.ipv6_prefix))
        put(self, "hides_keys", shows_secrets(self.key))
        template = parse_template(self.path) if self.path is not None else None
        put(self, "segments", template.segments if template else ())
        put(self, "verb", template.verb if template else "")

    def matches(self, method: str, steps: list[str], rpc: str) -> bool:
        """Say whether it is about a request; *steps* are the decoded segments of its path."""
        if self.rpc is not None:
            return self.rpc == rpc
        if self.methods and method not in self.methods:
            return False
        return self.any or self.matches_path(steps)

    def matches_path(self, steps: list[str]) -> bool:
        """Say whether the path pattern covers the path; a `:verb` belongs to the last segment."""
        if self.verb:
            last, colon, verb = steps[-1].rpartition(":") if steps else ("", "", "")
            if not colon or verb != self.verb:
                return False
            steps = [*steps[:-1], last]
        for index, segment in enumerate(self.segments):
            if segment.kind == DOUBLE_STAR:
                return True
            if index >= len(steps):
                return False
            if not (steps[index] if segment.kind else steps[index] == segment.literal):
                return False
        return len(steps) == len(self.segments)
