"""Observers: logs and metrics."""
