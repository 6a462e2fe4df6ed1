"""What the limiting engine has done beside deciding, as metric families; decisions are in `engines.py`."""

from __future__ import annotations

from math import inf

from silence_gateway.core.local_share import over_admission
from silence_gateway.limiting.assembly import LimitEngine
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.watch.families import Family, Sample


def limit_engine_families(limiter: Limiter, engine: LimitEngine) -> list[Family]:
    """Return what one process has remembered, leased, held and settled, and what an outage may cost."""
    leasing, falling_back = engine.leasing, engine.falling_back
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
        "silence_limit_charged_uses_total": (
            "Uses let through while the store was away and charged to it when it was back.",
            falling_back.charged,
        ),
        "silence_limit_uncharged_uses_total": (
            "Uses let through while the store was away and not charged to it: too many keys, or no answer.",
            falling_back.uncharged,
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
        over_admission_family(limiter, engine),
        *(Family(name, "counter", text, (Sample((), value),)) for name, (text, value) in counters.items()),
    ]


def over_admission_family(limiter: Limiter, engine: LimitEngine) -> Family:
    """Return what an outage of the store may let through; nothing where the store is this process."""
    shared, instances = engine.leasing is not None, engine.store.live_instances
    bounds = {
        name: over_admission(spec.rule, instances) if shared else 0 for name, spec in limiter.specs.items()
    }
    return Family(
        "silence_limit_over_admission",
        "gauge",
        "Uses of one key that the fleet may let through beyond the limit, in a window with an outage.",
        tuple(Sample((("limit", name),), inf if bound is None else bound) for name, bound in bounds.items()),
        "max",
    )
