#!/bin/sh
# Compile the sample service's proto into the descriptor set that the package ships.
set -eu
cd "$(dirname "$0")/.."
site=$(.venv/bin/python -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")
.venv/bin/python -m grpc_tools.protoc -I src/silence_gateway/app/sample -I "$site" --include_imports \
    --descriptor_set_out=src/silence_gateway/app/sample/cafe.binpb cafe.proto
