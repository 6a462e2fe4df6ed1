"""The admin listener: probes, metrics and the API under /api/v1."""
