"""
Who the endpoints of one upstream are, and how they come and go.

Who comes gets connections and is watched; who leaves gets no new calls, finishes what it has, and is then
forgotten. Which of those that are here is called next is `places.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from silence_gateway.errors import ConfigError
from silence_gateway.upstreams.background import Background
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.fleet import Fleet
from silence_gateway.upstreams.health import HealthWatch
from silence_gateway.upstreams.ledger import Ledger
from silence_gateway.upstreams.membership import Membership
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.settings import EndpointSettings

Make = Callable[[EndpointSettings], Endpoint]
"""Makes the endpoint of some settings, not connected yet."""


class Roster:
    """
    The endpoints of one upstream that this instance uses, by address.

    Arguments:
        name: The upstream, for errors.
        endpoints: Those that are here; the roster alone changes which.
        membership: Whom of those that are known this instance uses.
        welcome: Called with an endpoint that has come or come back: operators may have said something of it.
        watch: Checks the health of everyone here.

    """

    def __init__(
        self,
        name: str,
        endpoints: dict[str, Endpoint],
        membership: Membership,
        *,
        make: Make,
        places: Places,
        ledger: Ledger,
        background: Background,
        welcome: Callable[[Endpoint], None],
        fleet: Fleet | None,
        watch: HealthWatch | None,
    ) -> None:
        self.membership = membership
        self._name = name
        self._endpoints = endpoints
        self._make = make
        self._places = places
        self._ledger = ledger
        self._spawn = background.begin
        self._fleet = fleet
        self._watch = watch
        self._welcome = welcome

    def open(self, endpoints: Iterable[EndpointSettings]) -> None:
        """Begin to connect to *endpoints*."""
        for settings in self.membership.add(*endpoints)[0]:
            self._begin(settings)

    def replace(self, endpoints: Sequence[EndpointSettings]) -> None:
        """Make *endpoints* those that are here; who stays keeps its connections, health and breaker."""
        for one in endpoints:
            if not isinstance(one, EndpointSettings):
                raise TypeError(f"endpoints are EndpointSettings(address='host:port'), not {one!r}")
        begun, left = self.membership.replace(endpoints)
        for address in self.membership.used:
            known = self._endpoints.get(address)
            if known is not None:
                known.update(self.membership.known[address])
        self._follow(begun, left)

    def add(self, settings: EndpointSettings) -> None:
        """
        Let one more endpoint join.

        Raises:
            ConfigError: If its address is here already.
        """
        if settings.address in self.membership.known:
            raise ConfigError(f"upstream {self._name!r}: endpoint {settings.address} is here already")
        self._follow(*self.membership.add(settings))

    def remove(self, address: str) -> None:
        """
        Let *address* finish its calls and be forgotten.

        Raises:
            KeyError: If there is no such endpoint.
        """
        self._follow(*self.membership.remove(address))

    def drain(self, address: str) -> None:
        """
        Give *address* no new calls; its connections stay.

        Raises:
            KeyError: If there is no such endpoint, or this instance does not use it.
        """
        self._endpoints[address].active = False
        self._places.reconsider()

    def activate(self, address: str) -> None:
        """
        Undo `drain`.

        Raises:
            KeyError: If there is no such endpoint, or it was removed.
        """
        endpoint = self._endpoints[address]
        if endpoint.removed:
            raise KeyError(address)
        endpoint.active = True
        self._places.reconsider()

    def forget(self, *endpoints: Endpoint) -> None:
        """Close and drop *endpoints* without a call in flight; what they counted stays with the upstream."""
        gone = [one for one in endpoints if self._endpoints.pop(one.address, None) is not None]
        if not gone:
            return
        for endpoint in gone:
            self._ledger.inherit(endpoint)
        self._places.remove(*gone)
        for endpoint in gone:
            if self._fleet is not None:
                self._fleet.forget(endpoint.address)
            self._spawn(endpoint.close())

    def _follow(self, begun: Iterable[EndpointSettings], left: Iterable[str]) -> None:
        """Connect to whom this instance uses from now on, and take leave of the others."""
        for settings in begun:
            known = self._endpoints.get(settings.address)
            if known is None:
                self._begin(settings)
            else:
                self._welcome_back(known, settings)
        leaving = [self._endpoints[address] for address in left]
        for endpoint in leaving:
            endpoint.active = False
            endpoint.removed = True
            endpoint.leaving = True
        self._places.reconsider()
        self.forget(*(endpoint for endpoint in leaving if not endpoint.in_flight))

    def _welcome_back(self, endpoint: Endpoint, settings: EndpointSettings) -> None:
        """Use *endpoint* again, which came back before its last call had ended."""
        endpoint.update(settings)
        endpoint.removed = endpoint.leaving = False
        self._welcome(endpoint)
        if self._watch is not None and not self._watch.watches(endpoint):
            self._spawn(self._watch.watch(endpoint))

    def _begin(self, settings: EndpointSettings) -> None:
        endpoint = self._make(settings)
        self._endpoints[settings.address] = endpoint
        self._places.add(endpoint)
        if self._fleet is not None:
            self._fleet.expect(settings.address)
        self._welcome(endpoint)
        endpoint.start()
        if self._watch is not None:
            self._spawn(self._watch.watch(endpoint))
