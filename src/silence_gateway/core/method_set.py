"""Methods as an operator names them: one, or all of a service."""

from __future__ import annotations

from collections.abc import Collection

ALL = "/*"


class MethodSet:
    """
    Methods by their paths, from names such as `shop.v1.Shop/Get` and `shop.v1.Shop/*`.

    Attributes:
        names: These.
    """

    __slots__ = ("_paths", "_services", "names")

    def __init__(self, names: Collection[str]) -> None:
        self.names = tuple(sorted(names))
        self._paths = frozenset(f"/{name}".encode() for name in names if not name.endswith(ALL))
        self._services = frozenset(f"/{name[:-2]}".encode() for name in names if name.endswith(ALL))

    def __bool__(self) -> bool:
        return bool(self._paths or self._services)

    def __contains__(self, path: bytes) -> bool:
        return path in self._paths or (bool(self._services) and path.rpartition(b"/")[0] in self._services)

    def not_among(self, methods: Collection[str]) -> list[str]:
        """Return the names that mean none of *methods*, which are all there are."""
        known = {*methods, *(method.partition("/")[0] + ALL for method in methods)}
        return [name for name in self.names if name not in known]


NO_METHODS = MethodSet(())
