"""
Which endpoint gets the next call: one file per rule, all of them pure.

Who may take calls is decided in `core/endpoints.py`; here are only choices among those who may. Randomness
is an argument, and weights are worked into the order of the candidates beforehand, so that a pick is a few
list look-ups.
"""

from silence_gateway.core.balancing.candidates import MAX_PENALTY, Candidate, faded, raised
from silence_gateway.core.balancing.shares import MAX_WEIGHT

__all__ = ["MAX_PENALTY", "MAX_WEIGHT", "Candidate", "faded", "raised"]
