"""
An endpoint as balancing sees it, and what failures and silence cost it.

Who may take calls at all is decided in `core/endpoints.py`. Nothing here knows a clock: whoever counts
calls also tells when a second has passed.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

MAX_PENALTY = 64
"""An endpoint that only fails looks this much busier than it is, at most."""

SILENT_S = 2.0
"""
Silence that counts against an endpoint that owes answers. Looked at once a second, so that a call which
began just after the last look is a whole second old before it is held against anybody.
"""


class Candidate(Protocol):
    """
    What a choice looks at.

    Attributes:
        in_flight: Calls begun and not answered; a call that never completes stays in here, so that a
            silent endpoint looks busy and not idle.
        penalty: Failures and seconds of silence not yet forgotten; without it an endpoint that fails fast
            would look idle.
        share: Whole number; its part of the calls in proportion to that of the others. An endpoint of
            twice the share is as busy with two calls as another with one, and as idle with none.
        rtt_s: How long answers take, peaks remembered (`peak_ewma.py`); 0 before the first.
    """

    in_flight: int
    penalty: int
    share: int
    rtt_s: float


C = TypeVar("C", bound=Candidate)


def raised(penalty: int) -> int:
    """Return the penalty after one more failure, or one more second of silence."""
    return min(penalty + 1, MAX_PENALTY)


def faded(penalty: int) -> int:
    """
    Return the penalty after a second without looking: half of it.

    It fades with time and not only with a success, because an endpoint that is never picked could never
    succeed.
    """
    return penalty // 2
