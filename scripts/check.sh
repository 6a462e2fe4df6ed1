#!/bin/sh
# Format, lint, types, import rules, fast tests: what must hold before every push.
set -eu
ruff format --check .
ruff check .
mypy
lint-imports
python -m pytest -q -m "not valkey and not system and not browser and not node"
