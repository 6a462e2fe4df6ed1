"""What all sections of the file share: frozen, strict, and silent about values when something is wrong."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """
    One mapping of the file.

    A field's alias is the key in the file; its own name carries the unit of the parsed value
    (`header_timeout: 10s` is `header_timeout_s`). Every field has a description: the reference page and
    the JSON Schema are made of them.

    Attributes:
        SHORTHAND: The key that a plain value stands for where this mapping is expected, if any.
        ALONE: Whether a mapping where a list of them is expected stands for a list of one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_by_alias=True)

    SHORTHAND: ClassVar[str] = ""
    ALONE: ClassVar[bool] = False
