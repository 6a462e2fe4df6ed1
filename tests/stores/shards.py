"""What tests of one server want to reach behind a `ValkeyStore`."""

from __future__ import annotations

from silence_gateway.stores.batching import Pipeline
from silence_gateway.stores.shard import Shard
from silence_gateway.stores.valkey import ValkeyStore


def only(store: ValkeyStore) -> Shard:
    """The shard of a store of one server."""
    assert store.only is not None
    return store.only


def general(store: ValkeyStore) -> Pipeline:
    """Its general lane, which takes plain commands."""
    return only(store).general
