"""The admin listener: probes, metrics, the API that the command line talks to."""

from __future__ import annotations

from pydantic import Field

from silence_gateway.app.config.kinds import ListenAddress, Secret
from silence_gateway.app.config.quantities import Address
from silence_gateway.app.config.section import Section


class AdminConfig(Section):
    """Where the admin API listens and who may use it."""

    listen: ListenAddress = Field(
        default=Address("127.0.0.1", 9900), description="Address of the admin API, probes and metrics."
    )
    token: Secret = Field(
        default=None, description="Bearer token of the admin API. Without one it may listen on loopback only."
    )
