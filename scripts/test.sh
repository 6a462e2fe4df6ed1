#!/bin/sh
# Everything. Stock JavaScript clients need Node.js and the browser tests need Chromium: where either
# is absent and cannot be installed, those tests are skipped and say so loudly at the end.
set -eu
ruff format --check .
ruff check .
mypy
lint-imports
sh scripts/test-tools.sh

# What is pure computation needs a core and nothing else, so it runs beside what waits for servers and clocks.
PURE="tests/core tests/upstreams/test_breaker_schedules.py"
said=$(mktemp)
trap 'rm -f "$said"' EXIT
python -m pytest -q -p no:cacheprovider $PURE >"$said" 2>&1 &
beside=$!
status=0
python -m pytest -q $(printf -- '--ignore=%s ' $PURE) || status=$?
wait "$beside" || status=$?
echo "beside it, $PURE:"
cat "$said"
exit "$status"
