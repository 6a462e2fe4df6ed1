"""`silence` with a rate limit service that remembers no question, as if each were new: the worst case."""

from __future__ import annotations

from silence_gateway.app.cli import main
from silence_gateway.rls import plans

if __name__ == "__main__":
    plans.MAX_REMEMBERED_BYTES = 0
    main()
