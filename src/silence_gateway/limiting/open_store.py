"""From a store's address to a store, for programs that use an engine as a library."""

from __future__ import annotations

from silence_gateway.clock import Clock
from silence_gateway.errors import ConfigError
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.stores.url import parse_store_url


def open_store(address: str, fleet: str, clock: Clock) -> Store:
    """
    Make the store at *address*; `start` it before use.

    Raises:
        ConfigError: The address cannot be read.
    """
    url = parse_store_url(address)
    if url.scheme == "memory":
        return MemoryStore(MemoryHub(clock))
    raise ConfigError(f"{url} cannot be opened for {fleet} yet")
