"""Inbound: sockets, HTTP/1.1 and WebSocket connections, and the one table from errors to wire codes."""
