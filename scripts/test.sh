#!/bin/sh
# Everything. Stock JavaScript clients need Node.js and the browser tests need Chromium: where either
# is absent and cannot be installed, those tests are skipped and say so loudly at the end.
set -eu
ruff format --check .
ruff check .
mypy
lint-imports
sh scripts/test-tools.sh
python -m pytest -q
