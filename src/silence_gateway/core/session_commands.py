"""
What a command on a channel needs done, or why it is refused: one function per question, no state.

A permission that a later version adds (subscription tokens, who may see presence, history and
recovery of a channel) is one more line here, where `core/session.py` and the tests already look.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from silence_gateway.core import centrifuge as wire
from silence_gateway.core import centrifuge_codes as codes
from silence_gateway.core.centrifuge import BadFrame, Command
from silence_gateway.core.centrifuge_codes import ReplyError
from silence_gateway.core.channels import NamespaceRules, look_up, may_enter, namespace_of
from silence_gateway.core.session_effects import AskPresence, AskPresenceStats, Attach, Publish


def decide(
    command: Command,
    namespaces: Mapping[str, NamespaceRules],
    user: str,
    info: bytes,
    held: Collection[str],
) -> Attach | Publish | AskPresence | AskPresenceStats | ReplyError:
    """
    Decide on subscribe, publish, presence or presence_stats of a client that is connected.

    *info* is the client as others see it, *held* the channels it has or is getting.
    """
    channel = command.params.get("channel")
    if not isinstance(channel, str):
        return codes.BAD_REQUEST
    rules = look_up(channel, namespaces)
    if isinstance(rules, ReplyError):
        return rules
    refusal = may_enter(channel, user)
    if refusal is not None:
        return refusal
    match command.method:
        case "subscribe":
            return decide_subscribe(command.id, channel, rules, held)
        case "publish":
            return decide_publish(command, channel, rules, info)
        case "presence":
            return AskPresence(command.id, channel) if rules.presence else codes.NOT_AVAILABLE
        case "presence_stats":
            return AskPresenceStats(command.id, channel) if rules.presence else codes.NOT_AVAILABLE
        case _:
            return codes.METHOD_NOT_FOUND


def decide_subscribe(
    command_id: int, channel: str, rules: NamespaceRules, held: Collection[str]
) -> Attach | ReplyError:
    """Refuse a second subscription, and one too many in a namespace."""
    if channel in held:
        return codes.ALREADY_SUBSCRIBED
    if len(held) >= rules.max_subscriptions:
        namespace = namespace_of(channel)
        if sum(1 for other in held if namespace_of(other) == namespace) >= rules.max_subscriptions:
            return codes.LIMIT_EXCEEDED
    return Attach(command_id, channel)


def decide_publish(
    command: Command, channel: str, rules: NamespaceRules, info: bytes
) -> Publish | ReplyError:
    """Refuse where clients may not publish, and what is not there or cannot be passed on."""
    if not rules.publish:
        return codes.PERMISSION_DENIED
    if "data" not in command.params:
        return codes.BAD_REQUEST
    try:
        data = wire.encode_json(command.params["data"])
    except BadFrame:
        return codes.BAD_REQUEST
    return Publish(command.id, channel, wire.publication(data, info))


def not_served(command: Command, namespaces: Mapping[str, NamespaceRules]) -> ReplyError:
    """Return why a command that this gateway knows but does not serve (history, rpc ...) is refused."""
    if command.method == "rpc":
        return codes.NOT_AVAILABLE
    channel = command.params.get("channel")
    if not isinstance(channel, str):
        # Old clients leave the channel out of sub_refresh: an answer, not a close.
        return codes.BAD_REQUEST
    rules = look_up(channel, namespaces)
    return rules if isinstance(rules, ReplyError) else codes.NOT_AVAILABLE
