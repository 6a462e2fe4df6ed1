"""
A real cluster on loopback: primaries, replicas, failovers, and slots that move.

Formed by commands, as `valkey-cli --cluster create` does, which the wheel does not bring. Everything here
blocks: in a test with an event loop, call what takes longer than a kill by `asyncio.to_thread`.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from typing import Self

import hiredis

from silence_gateway.core.slots import SLOTS, slot_of
from silence_gateway.errors import StoreUnavailable
from silence_gateway.testing.valkey import LOOK_EVERY_S
from silence_gateway.testing.valkey_node import ValkeyNode

FORM_DEADLINE_S = 20.0
MIGRATE_MS = 5000
KEYS_AT_ONCE = 20


class ValkeyCluster:
    """
    Servers that form a cluster; use it as a context manager, or `stop` it.

    Args:
        primaries: How many; the slots are spread evenly.
        replicas: How many of each primary.
        node_timeout_ms: After which the others take a silent node for failed.
        full_coverage: Whether all stop when one primary has no successor yet, which is Valkey's default.
        proxied: Whether every node is behind a `FaultProxy`.
        tls: What those answer TLS handshakes with.
        options: More command line options for every server.

    Attributes:
        nodes: All of them, primaries first; replica i follows primary i modulo *primaries*.

    Raises:
        StoreUnavailable: It does not come about within 20 s.
    """

    def __init__(
        self,
        primaries: int = 3,
        replicas: int = 0,
        *,
        node_timeout_ms: int = 1000,
        full_coverage: bool = False,
        proxied: bool = False,
        tls: ssl.SSLContext | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.primaries = primaries
        self.timeout_ms = node_timeout_ms
        self.full_coverage = full_coverage
        self.proxied = proxied
        self.tls = tls
        self.options = tuple(options)
        self.nodes: list[ValkeyNode] = []
        try:
            for _ in range(primaries * (1 + replicas)):
                self.nodes.append(self.make_node())
            self.form()
        except BaseException:
            self.stop()
            raise

    def make_node(self) -> ValkeyNode:
        """Start one server, which belongs to no cluster yet."""
        return ValkeyNode(self.options_of, proxied=self.proxied, tls=self.tls)

    def options_of(self, node: ValkeyNode) -> Sequence[str]:
        """Return what makes a server a member of a cluster."""
        return [
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
            *("--cluster-port", str(node.bus_port), "--cluster-node-timeout", str(self.timeout_ms)),
            *("--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(node.open_port)),
            *("--cluster-require-full-coverage", "yes" if self.full_coverage else "no"),
            *("--cluster-allow-replica-migration", "no", "--cluster-replica-validity-factor", "0"),
            *("--repl-diskless-sync-delay", "0"),
            *self.options,
        ]

    @property
    def url(self) -> str:
        """The address, with every node as a place to begin."""
        secure = "s" if self.tls is not None else ""
        return f"valkey{secure}+cluster://" + ",".join(str(node.node) for node in self.nodes)

    # -- coming about ---------------------------------------------------------------------------------

    def form(self) -> None:
        """Introduce the nodes to each other, give out the slots, and wait until all agree."""
        first, *others = self.nodes
        for node in others:
            first.call("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        for number, node in enumerate(self.nodes[: self.primaries]):
            begin, end = (at * SLOTS // self.primaries for at in (number, number + 1))
            node.call("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        until(self.all_met, "the nodes know each other")
        for number, node in enumerate(self.nodes[self.primaries :]):
            follow(node, self.nodes[number % self.primaries])
        until(self.all_agree, "the cluster is complete")

    def all_met(self) -> bool:
        """Whether every node knows all, and none is a stranger any more."""
        told = [node.call("CLUSTER", "NODES") for node in self.nodes]
        return all(each.count(b"\n") == len(told) and b"handshake" not in each for each in told)

    def all_agree(self) -> bool:
        """Whether every node sees every slot served, and every replica has what its primary has."""
        served = b"cluster_slots_ok:%d\r" % SLOTS
        return all(
            served in node.call("CLUSTER", "INFO") and b"cluster_state:ok" in node.call("CLUSTER", "INFO")
            for node in self.nodes
        ) and all(
            node.info("replication").get("master_link_status") == "up"
            for node in self.nodes[self.primaries :]
        )

    # -- who is who -----------------------------------------------------------------------------------

    def primary_of(self, key: bytes | int) -> ValkeyNode:
        """Return who serves a key, or a slot, as the nodes that run tell."""
        slot = key if isinstance(key, int) else slot_of(key)
        for asked in self.nodes:
            if not asked.process.running:
                continue
            for first, last, primary, *_replicas in asked.call("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return next(node for node in self.nodes if node.open_port == primary[1])
        raise StoreUnavailable(f"nobody serves slot {slot}")

    def id_of(self, node: ValkeyNode) -> str:
        """Return the name that the cluster has for a node."""
        name: bytes = node.call("CLUSTER", "MYID")
        return name.decode()

    # -- what happens to clusters -----------------------------------------------------------------------

    def add_primary(self) -> ValkeyNode:
        """Add a primary that has no slots yet."""
        node = self.make_node()
        self.nodes.append(node)
        self.nodes[0].call("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        until(self.all_met, "the new node is known")
        return node

    def promote(self, replica: ValkeyNode) -> None:
        """Have a replica take over from its primary, in agreement with it."""
        replica.call("CLUSTER", "FAILOVER")
        until(lambda: replica.info("replication")["role"] == "master", "the replica has taken over")

    def begin_move(self, slot: int, target: ValkeyNode) -> ValkeyNode:
        """Begin to move one slot key by key: from now on new keys go to *target*; returns the source."""
        source = self.primary_of(slot)
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        return source

    def move_keys(self, slot: int, source: ValkeyNode, target: ValkeyNode) -> int:
        """Move the keys of a slot that is being moved; returns how many."""
        moved = 0
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, KEYS_AT_ONCE):
            source.call("MIGRATE", "127.0.0.1", target.port, "", 0, MIGRATE_MS, "KEYS", *keys)
            moved += len(keys)
        return moved

    def end_move(self, slot: int, source: ValkeyNode, target: ValkeyNode) -> None:
        """Say that *target* has the slot."""
        # The target first: from then on it is told to nobody who would be sent back.
        for node in (target, source):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def move_slot(self, slot: int, target: ValkeyNode) -> int:
        """Move one slot key by key, as every version can; returns how many keys it had."""
        source = self.begin_move(slot, target)
        moved = self.move_keys(slot, source, target)
        self.end_move(slot, source, target)
        return moved

    def move_slots_at_once(self, first: int, last: int, target: ValkeyNode) -> None:
        """
        Move slots of one primary in one go, as Valkey can since 9.0.

        Raises:
            hiredis.ReplyError: This server cannot.
        """
        source = self.primary_of(first)
        source.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", self.id_of(target))
        until(lambda: self.primary_of(first) is target, "the slots have moved")

    # -- the end --------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End every server."""
        for node in self.nodes:
            node.stop()
        self.nodes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def follow(node: ValkeyNode, primary: ValkeyNode) -> None:
    """Make *node* a replica, which is refused until it has heard who the primary is."""
    name = primary.call("CLUSTER", "MYID")

    def accepted() -> bool:
        try:
            node.call("CLUSTER", "REPLICATE", name)
        except hiredis.ReplyError:
            return False
        return True

    until(accepted, "a node may be a replica")


def until(holds: Callable[[], bool], what: str, deadline_s: float = FORM_DEADLINE_S) -> None:
    """
    Return once *holds* returns true.

    Raises:
        StoreUnavailable: It did not in time; the text says *what*.
    """
    end_s = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end_s:
            raise StoreUnavailable(f"not within {deadline_s:g} s: {what}")
        time.sleep(LOOK_EVERY_S)
