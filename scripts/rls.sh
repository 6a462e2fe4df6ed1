#!/bin/sh
# Compile the protos of Envoy's rate limit service into the descriptor set that the package ships.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/python -m grpc_tools.protoc -I src/silence_gateway/rls/protos --include_imports \
    --descriptor_set_out=src/silence_gateway/rls/rls.binpb envoy/service/ratelimit/v3/rls.proto
