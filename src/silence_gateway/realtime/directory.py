"""
Sessions of the whole fleet: look them up, count them, disconnect them.

Reads go to the store, and to this instance's own sessions while the store is away. Orders go to every
instance over the bus (`control.py`) and are carried out by the one that holds the client.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from silence_gateway.core.centrifuge_codes import FORCE_NO_RECONNECT, CloseCode
from silence_gateway.errors import StoreFault
from silence_gateway.realtime import control
from silence_gateway.stores.session_contract import InstanceRecord, SessionPage, SessionRecord

if TYPE_CHECKING:
    from silence_gateway.realtime.hub import RealtimeHub

MAX_PAGE = 1000
# Clients of one channel that can be listed; beyond it, ask by user or by instance.
MAX_LISTED = 10_000


class Directory:
    """What one hub knows of the fleet's sessions."""

    def __init__(self, hub: RealtimeHub) -> None:
        self.hub = hub

    async def sessions(
        self, *, user: str = "", channel: str = "", limit: int = 100, cursor: str = ""
    ) -> SessionPage:
        """
        Return sessions by user, by channel (where presence is kept), or all of them.

        Pages follow each other by *cursor*, which means something only for the same question. While
        the store is away only the sessions of this instance are seen.
        """
        limit = max(1, min(limit, MAX_PAGE))
        try:
            if user:
                page = await self.hub.store.list_by_user(user, cursor, limit)
                kept = tuple(each for each in page.sessions if not channel or channel in each.channels)
                return SessionPage(kept, page.cursor)
            if channel:
                return await self.in_channel(channel, limit, cursor)
            return await self.everywhere(limit, cursor)
        except StoreFault:
            return self.here(user, channel, limit, cursor)

    async def in_channel(self, channel: str, limit: int, cursor: str) -> SessionPage:
        """
        Return sessions that are in *channel*.

        Raises:
            StoreUnavailable: The store is away.
        """
        there = await self.hub.store.presence(channel, MAX_LISTED)
        ids = sorted(each for each in there if each > cursor)
        found = [await self.hub.store.get(each) for each in ids[:limit]]
        following = ids[limit - 1] if len(ids) > limit else ""
        return SessionPage(tuple(each for each in found if each is not None), following)

    async def everywhere(self, limit: int, cursor: str) -> SessionPage:
        """
        Return sessions of one instance after the other; the cursor is `instance/id`.

        Raises:
            StoreUnavailable: The store is away.
        """
        at, _, after = cursor.partition("/")
        found: list[SessionRecord] = []
        for instance in await self.hub.store.instances():
            if instance.id < at:
                continue
            page = await self.hub.store.list_by_instance(
                instance.id, after if instance.id == at else "", limit - len(found)
            )
            found += page.sessions
            if page.cursor:
                return SessionPage(tuple(found), f"{instance.id}/{page.cursor}")
            if len(found) >= limit:
                # The next page begins behind this instance's last session.
                return SessionPage(tuple(found), f"{instance.id}/~")
        return SessionPage(tuple(found), "")

    def here(self, user: str, channel: str, limit: int, cursor: str) -> SessionPage:
        """Return sessions of this instance."""
        records = (self.hub.record_of(each) for each in list(self.hub.connections.values()))
        found = sorted(
            (
                each
                for each in records
                if each.id > cursor
                and (not user or each.user == user)
                and (not channel or channel in each.channels)
            ),
            key=lambda each: each.id,
        )
        return SessionPage(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else "")

    async def session(self, session_id: str) -> SessionRecord | None:
        """Return one session, or None where nobody knows it."""
        mine = self.hub.connections.get(session_id)
        if mine is not None:
            return self.hub.record_of(mine)
        try:
            return await self.hub.store.get(session_id)
        except StoreFault:
            return None

    async def disconnect(self, session_id: str, why: CloseCode = FORCE_NO_RECONNECT) -> bool:
        """
        Close one session, wherever it is; False where nobody knows it.

        Raises:
            StoreUnavailable: It is not here, and nobody else could be told.
        """
        mine = self.hub.connections.get(session_id)
        if mine is not None:
            mine.close(why)
            return True
        if await self.hub.store.get(session_id) is None:
            return False
        order = control.Order(op="disconnect", client=session_id, code=why.code, reason=why.reason)
        await self.give_order(order)
        return True

    async def instances(self) -> tuple[InstanceRecord, ...]:
        """Return every instance that is alive; this one alone while the store is away."""
        try:
            found = await self.hub.store.instances()
        except StoreFault:
            found = ()
        mine = self.hub.instance_id
        me = InstanceRecord(mine, True, self.hub.statistics.connected, self.describe_instance())
        others = [each for each in found if each.alive and each.id != mine]
        return tuple(sorted([me, *others], key=lambda each: each.id))

    def describe_instance(self) -> bytes:
        """Return what this instance says about itself, as `/api/info` shows it."""
        numbers = self.hub.statistics
        return json.dumps(
            {
                "uid": self.hub.instance_id,
                "name": self.hub.instance_id,
                "version": self.hub.settings.server_version,
                "num_clients": numbers.connected,
                "num_users": len(self.hub.users),
                "num_subs": numbers.subscriptions,
                "num_channels": numbers.channels,
                "uptime": (self.hub.clock.now_us() - self.hub.started_us) // 1_000_000,
            }
        ).encode()

    async def give_order(self, order: control.Order) -> None:
        """
        Have every instance carry *order* out.

        Raises:
            StoreUnavailable: It was carried out here only.
        """
        try:
            await control.publish_order(self.hub.bus, order)
        except StoreFault:
            self.carry_out(order)
            raise

    def on_order(self, payload: bytes) -> None:
        """An order has come."""
        order = control.read_order(payload)
        if order is not None:
            self.carry_out(order)

    def carry_out(self, order: control.Order) -> None:
        """Do what is ordered with the clients that are here."""
        if order.client:
            one = self.hub.connections.get(order.client)
            user = one.session.identity.user if one is not None and one.session.identity else ""
            found = [] if one is None or (order.user and user != order.user) else [one]
        else:
            found = list(self.hub.users.get(order.user, ()))
        for connection in found:
            if connection.session.client in order.spare:
                continue
            if order.op == "disconnect":
                connection.close(CloseCode(order.code, order.reason))
            elif order.op == "unsubscribe":
                for channel in [order.channel] if order.channel else list(connection.session.channels):
                    connection.unsubscribe(channel, order.code, order.reason)
