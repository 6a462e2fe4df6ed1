"""Outbound: gRPC connections and pools, health probing, and the state of both that the fleet shares."""
