"""What the limiting engine has done beside deciding, as metric families; decisions are in `engines.py`."""

from __future__ import annotations

from silence_gateway.limiting.assembly import LimitEngine
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.watch.families import Family, Sample


def limit_engine_families(limiter: Limiter, engine: LimitEngine) -> list[Family]:
    """Return what one process has remembered, leased, held and settled."""
    leasing = engine.leasing
    counters = {
        "silence_limit_remembered_refusals_total": (
            "Requests refused from memory, without asking the store.",
            engine.decider.denials.answered,
        ),
        "silence_limit_leased_uses_total": (
            "Uses decided here from a lease.",
            leasing.leased if leasing is not None else 0,
        ),
        "silence_limit_lost_uses_total": (
            "Leased uses that the store did not confirm to have back.",
            leasing.lost if leasing is not None else 0,
        ),
        "silence_limit_lost_places_total": (
            "Renewals and releases of places that the store did not confirm.",
            engine.holds.lost,
        ),
        "silence_limit_unsettled_costs_total": (
            "Costs told by answers that the store did not hear of.",
            limiter.unsettled,
        ),
        "silence_limit_untold_costs_total": (
            "Answers that should have told their cost and did not; what was reserved counts.",
            limiter.untold,
        ),
    }
    return [
        Family(
            "silence_limit_places",
            "gauge",
            "Requests that hold a place of a concurrency limit now.",
            (Sample((), len(engine.holds.held)),),
        ),
        *(Family(name, "counter", text, (Sample((), value),)) for name, (text, value) in counters.items()),
    ]
