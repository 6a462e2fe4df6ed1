#!/bin/sh
# Compile the protos of health and reflection into the descriptor set that the package ships.
set -eu
cd "$(dirname "$0")/.."
cd src/silence_gateway/edge/protos
../../../../.venv/bin/python -m grpc_tools.protoc -I . --descriptor_set_out=services.binpb \
    grpc/health/v1/health.proto grpc/reflection/v1/reflection.proto grpc/reflection/v1alpha/reflection.proto
