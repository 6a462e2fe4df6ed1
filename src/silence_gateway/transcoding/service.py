"""
What one upstream serves: its descriptors, its bindings, and what is wrong with them.

Descriptors are read when the gateway starts, and again whenever somebody says so (an upstream has
reconnected, a file has changed). Reading never happens on the request path. What was read last stays
in force when a later reading fails, and a reading that finds nothing new changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from itertools import count
from random import Random

from protobuf import DescService, Registry

from silence_gateway.clock import Clock
from silence_gateway.core.backoff import Backoff, wait_us
from silence_gateway.core.http import Request
from silence_gateway.core.method_set import MethodSet
from silence_gateway.core.status import Code
from silence_gateway.errors import ConfigError, GatewayError, RpcError, UpstreamProtocolError
from silence_gateway.events import DescriptorsLoaded, Noticed, Observer, RuleUnusable, nobody
from silence_gateway.transcoding.binding import Binding, CallSettings
from silence_gateway.transcoding.descriptors import (
    HIDDEN_PREFIXES,
    Descriptors,
    DescriptorSource,
    DescriptorsUnusable,
    RawDescriptors,
)
from silence_gateway.transcoding.http_rules import RuleProblem, rules_of
from silence_gateway.transcoding.request_plan import STRICT, Strictness
from silence_gateway.upstreams.contracts import Caller

# An upstream that starts together with us is there within a second or two; one that is down stays so
# for minutes, and ten seconds late is early enough then.
BACKOFF = Backoff(first_us=400_000, cap_us=10_000_000, floor_us=100_000)


class TranscodedService:
    """
    One upstream, callable with JSON.

    Args:
        upstream_name: As the configuration calls it.
        caller: What carries the calls.
        source: Where descriptors come from.
        services: Names of the services to serve; empty for all, except those about the server itself.
        timeout_s: Seconds that a call may take where nothing says less; None for no bound.
        clock: What deadlines and waits are measured by.
        observer: Told of loaded descriptors, unusable rules and failed readings.
        changed: Called after the bindings have changed, so that the route table can be built anew.
        forwarded_headers: Names of further request headers to send as metadata.
        strictness: What to do with things a caller sends that lead nowhere.
        rng: Spreads the waits between attempts.
        caller_for: Returns what carries the call of one request, told whether it may run twice, where
            *caller* and *repeating* do not do for all.
        repeating: What carries calls that may run twice; None if nothing is repeated.
        repeatable: Methods that may, whatever they say of themselves: `package.Service/Method` each, or
            `package.Service/*`.

    Attributes:
        upstream: As the configuration calls it.
        bindings: Every way to reach every method; empty until descriptors were read.
        problems: What cannot be served, and why.
        descriptors: What was read last; None until then.
        last_failure: Why the latest reading failed; empty if it did not.
    """

    def __init__(
        self,
        upstream_name: str,
        caller: Caller,
        source: DescriptorSource,
        *,
        clock: Clock,
        repeating: Caller | None = None,
        repeatable: Collection[str] = (),
        services: Collection[str] = (),
        timeout_s: float | None = None,
        observer: Observer = nobody,
        changed: Callable[[], None] = lambda: None,
        forwarded_headers: Sequence[str] = (),
        strictness: Strictness = STRICT,
        rng: Random | None = None,
        caller_for: Callable[[Request, bool], Caller] | None = None,
    ) -> None:
        self.upstream = upstream_name
        self.source = source
        self.clock = clock
        self.wanted = frozenset(services)
        self.observer = observer
        self.changed = changed
        self.rng = Random() if rng is None else rng  # noqa: S311 - spreads waits, hides nothing
        self.settings = CallSettings(
            upstream=upstream_name,
            caller=caller,
            repeating=repeating,
            repeatable=MethodSet(repeatable),
            clock=clock,
            timeout_s=timeout_s,
            forwarded_headers=tuple(name.lower().encode() for name in forwarded_headers),
            strictness=strictness,
            caller_for=caller_for,
        )
        self.bindings: tuple[Binding, ...] = ()
        self.problems: tuple[RuleProblem, ...] = ()
        self.descriptors: Descriptors | None = None
        self.last_failure = ""
        self.turn = asyncio.Lock()
        self.reading: asyncio.Task[None] | None = None
        self.read_again = False
        self.hurry = asyncio.Event()

    async def load(self) -> None:
        """
        Read the descriptors, again and again until it works; cancel it to give up.

        `reload` cuts a wait between two attempts short.

        Raises:
            ConfigError: A file cannot be used, and waiting will not change that.
        """
        for attempt in count():
            self.hurry.clear()
            try:
                await self.refresh()
            except ConfigError:
                raise
            except GatewayError as error:
                self.tell_failure(error)
            else:
                return
            timer = self.clock.call_later(
                wait_us(BACKOFF, attempt, self.rng.random()) / 1_000_000, self.hurry.set
            )
            try:
                await self.hurry.wait()
            finally:
                timer.cancel()

    async def refresh(self) -> bool:
        """
        Read the descriptors once, and take them over if they have changed; return whether they have.

        Raises:
            ConfigError: A file cannot be used.
            GatewayError: They could not be had, or do not fit together. The old ones stay in force.
        """
        # One at a time, so that an older reading never replaces a newer one.
        async with self.turn:
            raw = await self.source.read()
            digest = raw.digest()
            if self.descriptors is not None and digest == self.descriptors.digest:
                self.last_failure = ""
                return False
            self.take(self.made_of(raw, digest))
            return True

    def made_of(self, raw: RawDescriptors, digest: str) -> Descriptors:
        """
        Make descriptors of what was read.

        Raises:
            ConfigError: They do not fit together, and the operator gave them.
            UpstreamProtocolError: The same, and the upstream gave them.
        """
        try:
            return Descriptors.of(raw, digest)
        except DescriptorsUnusable as error:
            text = f"descriptors of upstream {self.upstream} ({self.source.describe()}): {error}"
            raise (UpstreamProtocolError(text) if self.source.remote else ConfigError(text)) from error

    def reload(self) -> None:
        """Read the descriptors soon, in the background; many calls at once make one or two readings."""
        self.hurry.set()
        if self.reading is None or self.reading.done():
            self.reading = asyncio.get_running_loop().create_task(self.read_in_background())
        else:
            self.read_again = True

    async def read_in_background(self) -> None:
        """Read until nobody asks any more; failures are told, not raised."""
        while True:
            self.read_again = False
            try:
                if self.descriptors is None:
                    await self.load()
                else:
                    await self.refresh()
            except GatewayError as error:
                self.tell_failure(error)
            if not self.read_again:
                return

    async def close(self) -> None:
        """Stop reading in the background."""
        if self.reading is not None:
            self.reading.cancel()
            await asyncio.gather(self.reading, return_exceptions=True)
            self.reading = None

    def tell_failure(self, error: GatewayError) -> None:
        """Say once that descriptors cannot be had; the same reason again is no news."""
        reason = reason_of(error)
        if reason == self.last_failure:
            return
        self.last_failure = reason
        kept = (
            "those read before stay in force"
            if self.descriptors is not None
            else "its methods are not served yet"
        )
        where = f"upstream {self.upstream}: no descriptors from {self.source.describe()}"
        self.observer(Noticed(what=f"{where}: {reason}; {kept}", loudness="warning"))

    def take(self, descriptors: Descriptors) -> None:
        """Make bindings of *descriptors*, replace the old ones by them, and tell."""
        bindings: list[Binding] = []
        problems = [
            RuleProblem(name, "", reason) for name, reason in descriptors.missing if self.serves(name)
        ]
        for service in descriptors.services:
            if self.serves(service.type_name):
                add_bindings(service, descriptors.registry, self.settings, bindings, problems)
        found = {service.type_name for service in descriptors.services} | {
            name for name, _ in descriptors.missing
        }
        problems += [
            RuleProblem(
                name, "", f"the upstream has no such service; it has {', '.join(sorted(found)) or 'none'}"
            )
            for name in sorted(self.wanted - found)
        ]
        rpcs = {binding.rpc for binding in bindings}
        problems += [
            RuleProblem(name, "", "it is said to be one that may run twice, but no such method is served")
            for name in self.settings.repeatable.not_among(rpcs)
        ]
        self.descriptors = descriptors
        self.bindings = tuple(bindings)
        self.problems = tuple(problems)
        self.last_failure = ""
        self.observer(
            DescriptorsLoaded(
                upstream=self.upstream,
                services=len({rpc.partition("/")[0] for rpc in rpcs}),
                methods=len(rpcs),
                digest=descriptors.digest,
            )
        )
        # That a method streams is no fault of anybody; `silence routes` shows it, the log need not.
        streaming = {binding.rpc for binding in bindings if binding.refusal}
        for problem in problems:
            if not problem.rule and problem.method in streaming:
                continue
            self.observer(
                RuleUnusable(
                    upstream=self.upstream, method=problem.method, rule=problem.rule, reason=problem.reason
                )
            )
        self.changed()

    def serves(self, service: str) -> bool:
        """Tell whether a service is wanted."""
        return service in self.wanted if self.wanted else not service.startswith(HIDDEN_PREFIXES)


def reason_of(error: GatewayError) -> str:
    """Return why descriptors cannot be had, and what to do where that is known."""
    if isinstance(error, RpcError) and error.code == Code.UNIMPLEMENTED:
        return f"{error}: turn server reflection on in the service, or name a file in `descriptors`"
    return str(error)


def add_bindings(
    service: DescService,
    registry: Registry,
    settings: CallSettings,
    bindings: list[Binding],
    problems: list[RuleProblem],
) -> None:
    """Add every way to reach every method of *service*, and what is wrong with its rules."""
    for method in service.methods:
        rules, unusable = rules_of(method)
        problems += unusable
        try:
            by_name = Binding(method, registry, settings)
        except ValueError as error:
            # A name that cannot stand in a path; protoc would not let it through, reflection may.
            problems.append(RuleProblem(f"{service.type_name}/{method.name}", "", str(error)))
            continue
        # Limits and routes configured by path must not be passed by calling the method by its name.
        by_name.aliases = tuple((rule.verb, rule.template.example) for rule in rules)
        bindings.append(by_name)
        bindings += [Binding(method, registry, settings, rule) for rule in rules]
        if by_name.refusal:
            problems.append(RuleProblem(by_name.rpc, "", by_name.refusal))
