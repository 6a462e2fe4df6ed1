"""Public fakes: a clock that moves when told, an upstream that follows a script."""

from silence_gateway.testing.clock import FakeClock, settle

__all__ = ["FakeClock", "settle"]
