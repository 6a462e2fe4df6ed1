"""What is logged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from silence_gateway.app.config.kinds import choice
from silence_gateway.app.config.section import Section

AccessLog = Literal["json", "text", "none"]
Level = Literal["debug", "info", "warning", "error"]


class TelemetryConfig(Section):
    """Logs."""

    access_log: Annotated[AccessLog, choice("json", "text", "none")] = Field(
        default="json", description="Form of the one line per request; `none` writes no such line."
    )
    level: Annotated[
        Level,
        choice(
            "debug", "info", "warning", "error", slips={"warn": "'warn' is not known here: write warning"}
        ),
    ] = Field(default="info", description="Least severity of the other lines.")
