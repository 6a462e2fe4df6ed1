"""What holds for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# A slow machine is no failure, and CI tries the same examples every time: a new one that fails is found
# by somebody's `make test`, not by a push that has nothing to do with it.
settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")
