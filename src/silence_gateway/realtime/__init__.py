"""WebSocket sessions of the Centrifuge client protocol: the hub that ties sessions to stores and sockets."""
