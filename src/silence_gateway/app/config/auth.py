"""Who calls: how bearer tokens of requests are verified."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from silence_gateway.app.config.kinds import FilePath, Flag, Kind, Secret, Text, choice
from silence_gateway.app.config.quantities import quoted
from silence_gateway.app.config.section import Section
from silence_gateway.limiting.limit_key import HEADER_NAME

LATER = "the algorithm {!r} is not supported in this version: only HS256 is accepted"
JWT_ALGORITHM = choice(
    "HS256",
    slips={
        word: LATER.format(word)
        for word in ("HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "EdDSA")
    }
    | {"none": "'none' would accept tokens that anybody can make: only HS256 is accepted"},
)


def parse_key_header(text: str) -> str:
    """
    Check the name of the header that carries API keys.

    Raises:
        ValueError: No request could carry a key in it.
    """
    if not HEADER_NAME.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a header that gets here: write X-API-Key, no underscores")
    if text.lower() in TAKEN_HEADERS:
        raise ValueError(f"{quoted(text)} has a meaning of its own: write X-API-Key")
    return text


KEY_HEADER = Kind("name of a header", parse_key_header, str, {"type": "string"}, ("X-API-Key",))
TAKEN_HEADERS = frozenset({"authorization", "cookie", "host", "content-length", "content-type", "connection"})


class JwtConfig(Section):
    """JSON Web Tokens in `Authorization: Bearer`."""

    hmac_secret: Secret = Field(default=None, description="Secret that the tokens are signed with.")
    algorithms: tuple[Annotated[Literal["HS256"], JWT_ALGORITHM], ...] = Field(
        default=("HS256",), description="Signature algorithms to accept."
    )
    audience: Text | None = Field(default=None, description="Audience that a token must name; absent: any.")
    issuer: Text | None = Field(default=None, description="Issuer that a token must name; absent: any.")
    required: Flag = Field(
        default=True, description="Whether routes that say nothing refuse callers who prove nothing."
    )


class ApiKeysConfig(Section):
    """API keys in a header, from a file that is read again when it changes."""

    header: Annotated[str, KEY_HEADER] = Field(
        default="X-API-Key", description="Header that carries the key."
    )
    file: FilePath = Field(description="File with the keys: their ids and hashes.")
    required: Flag = Field(
        default=True, description="Whether routes that say nothing refuse callers who prove nothing."
    )


class AuthConfig(Section):
    """How callers prove who they are; one of both is enough."""

    jwt: JwtConfig | None = Field(default=None, description="JSON Web Tokens in `Authorization: Bearer`.")
    api_keys: ApiKeysConfig | None = Field(default=None, description="API keys in a header of their own.")
