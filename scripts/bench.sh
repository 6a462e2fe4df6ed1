#!/bin/sh
# Benchmarks against peers, which live in a virtual environment of their own.
set -eu
cd "$(dirname "$0")/.."
for tool in wrk h2load; do
    command -v "$tool" >/dev/null 2>&1 && continue
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq wrk nghttp2-client; } >/dev/null 2>&1 || true
    fi
    command -v "$tool" >/dev/null 2>&1 || { echo "bench: $tool is missing; install Debian's wrk and nghttp2-client" >&2; exit 1; }
done
if [ ! -f .bench-venv/.ready ] || [ bench/requirements.txt -nt .bench-venv/.ready ]; then
    ${PYTHON:-python3} -m venv .bench-venv
    .bench-venv/bin/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt --editable .
    touch .bench-venv/.ready
fi
if ! command -v npm >/dev/null 2>&1; then
    echo "bench: SKIPPED: no Node.js here, so no rate-limiter-flexible" >&2
elif [ ! -f bench/peers/node_modules/.ready ] || [ bench/peers/package.json -nt bench/peers/node_modules/.ready ]; then
    (cd bench/peers && npm install --silent --no-audit --no-fund --no-package-lock)
    touch bench/peers/node_modules/.ready
fi
exec .bench-venv/bin/python bench/run.py "$@"
