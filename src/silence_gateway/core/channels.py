"""
Channel names: `name`, `namespace:name`, `name#user,user` and `$private`.

Only the grammar and what a name alone decides. What a namespace allows is in its rules; who is
subscribed is known to `core/session.py` and `realtime/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from silence_gateway.core.centrifuge_codes import (
    BAD_REQUEST,
    PERMISSION_DENIED,
    UNKNOWN_CHANNEL,
    ReplyError,
)

MAX_CHANNEL_BYTES = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceRules:
    """
    What clients may do in the channels of one namespace.

    Attributes:
        publish: Clients may publish; the server API always may.
        presence: Who is there is kept and may be asked for.
        join_leave: Subscribers are told who comes and goes.
        max_subscriptions: Channels of this namespace that one connection may hold.
    """

    publish: bool = False
    presence: bool = True
    join_leave: bool = False
    max_subscriptions: int = 128


def namespace_of(channel: str) -> str:
    """Return the part before the first colon, without the private prefix; empty if there is none."""
    head, colon, _ = channel.removeprefix("$").partition(":")
    return head if colon else ""


def is_name(channel: str) -> bool:
    """Whether this can be a channel's name: 1 to 255 bytes of UTF-8 without control characters."""
    # Lone surrogates pass a JSON escape but can be neither sent nor used in a key; they are not printable.
    if not channel or len(channel) > MAX_CHANNEL_BYTES:
        return False
    if channel.isascii():
        return channel.isprintable()
    if any(not char.isprintable() and char != "\u200d" for char in channel):
        return False
    return len(channel.encode()) <= MAX_CHANNEL_BYTES


def look_up(channel: str, namespaces: Mapping[str, NamespaceRules]) -> NamespaceRules | ReplyError:
    """Return the rules of *channel*, or why there can be no such channel."""
    if not is_name(channel):
        return BAD_REQUEST
    return namespaces.get(namespace_of(channel), UNKNOWN_CHANNEL)


def may_enter(channel: str, user: str) -> ReplyError | None:
    """
    Return why *user* may not touch *channel*, going by its name alone; None if it may.

    After `#` stands a list of the only users allowed. A name that starts with `$` is private: it
    takes a subscription token, which this gateway does not issue entry for yet, so nobody may.
    """
    if channel.startswith("$"):
        return PERMISSION_DENIED
    _, hash_sign, users = channel.partition("#")
    if hash_sign and (not user or user not in users.split(",")):
        return PERMISSION_DENIED
    return None
