#!/bin/sh
# Install what some tests need and Python cannot bring: Chromium (Debian, root) and the npm client.
set -u
if ! command -v chromium >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null 2>&1 ||
            echo "test-tools: chromium could not be installed; the browser tests will be skipped" >&2
    else
        echo "test-tools: no chromium and no root to install it; the browser tests will be skipped" >&2
    fi
fi
if command -v npm >/dev/null 2>&1; then
    [ -d tests/node/node_modules/centrifuge ] || (cd tests/node && npm ci --silent --no-audit --no-fund) ||
        echo "test-tools: the npm clients could not be installed; their tests will be skipped" >&2
else
    echo "test-tools: no Node.js; the tests of the stock JavaScript clients will be skipped" >&2
fi
exit 0
