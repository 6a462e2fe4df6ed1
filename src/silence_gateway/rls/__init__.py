"""Envoy's rate limit service v3, by envoyproxy/ratelimit's own files: one decision behind two doors."""
