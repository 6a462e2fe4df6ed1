"""Who calls: how bearer tokens of requests are verified."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from silence_gateway.app.config.kinds import Flag, Secret, Text, choice
from silence_gateway.app.config.section import Section

LATER = "the algorithm {!r} is not supported in this version: only HS256 is accepted"
JWT_ALGORITHM = choice(
    "HS256",
    slips={
        word: LATER.format(word)
        for word in ("HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "EdDSA")
    }
    | {"none": "'none' would accept tokens that anybody can make: only HS256 is accepted"},
)


class JwtConfig(Section):
    """JSON Web Tokens in `Authorization: Bearer`."""

    hmac_secret: Secret = Field(default=None, description="Secret that the tokens are signed with.")
    algorithms: tuple[Annotated[Literal["HS256"], JWT_ALGORITHM], ...] = Field(
        default=("HS256",), description="Signature algorithms to accept."
    )
    audience: Text | None = Field(default=None, description="Audience that a token must name; absent: any.")
    issuer: Text | None = Field(default=None, description="Issuer that a token must name; absent: any.")
    required: Flag = Field(
        default=True, description="Whether routes that say nothing refuse callers without a token."
    )


class AuthConfig(Section):
    """How callers prove who they are."""

    jwt: JwtConfig | None = Field(default=None, description="JSON Web Tokens in `Authorization: Bearer`.")
