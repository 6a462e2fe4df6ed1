"""
What each method of the server API does: JSON values in, a result or an error out; no HTTP here.

A new method is one coroutine and one row of METHODS.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from silence_gateway.core import centrifuge as wire
from silence_gateway.core import centrifuge_codes as codes
from silence_gateway.core.centrifuge import BadFrame
from silence_gateway.core.centrifuge_codes import CloseCode, ReplyError
from silence_gateway.core.channels import look_up
from silence_gateway.errors import NotFound, StoreFault
from silence_gateway.realtime import control
from silence_gateway.realtime.hub import RealtimeHub

METHODS = (
    "publish",
    "broadcast",
    "unsubscribe",
    "disconnect",
    "presence",
    "presence_stats",
    "channels",
    "info",
    "batch",
    # Known, and answered with 108: nothing is kept that they could work on.
    "subscribe",
    "refresh",
    "history",
    "history_remove",
)
MAX_CHANNELS = 1000
MAX_BATCH = 1000

Params: TypeAlias = "Mapping[str, Any]"
Answer: TypeAlias = "dict[str, Any] | ReplyError"


class ServerMethods:
    """The methods of one hub's server API."""

    def __init__(self, hub: RealtimeHub) -> None:
        self.hub = hub

    async def call(self, method: str, params: Params) -> Answer:
        """Do what *method* says; the store being away is the temporary error 100."""
        try:
            match method:
                case "publish":
                    return await self.publish(params, params.get("channel"))
                case "broadcast":
                    return await self.broadcast(params)
                case "unsubscribe":
                    return await self.unsubscribe(params)
                case "disconnect":
                    return await self.disconnect(params)
                case "presence" | "presence_stats":
                    return await self.presence(params, whole=method == "presence")
                case "channels":
                    return await self.channels(params)
                case "info":
                    return await self.info()
                case "batch":
                    return await self.batch(params)
                case "subscribe" | "refresh" | "history" | "history_remove":
                    return codes.NOT_AVAILABLE
                case _:
                    return codes.METHOD_NOT_FOUND
        except StoreFault:
            return codes.INTERNAL

    async def publish(self, params: Params, channel: object) -> Answer:
        """Publish `data` (or `b64data`, the same as text) to one channel."""
        data, tags = params.get("data"), params.get("tags")
        if "b64data" in params:
            try:
                data = wire.decode_json(base64.b64decode(str(params["b64data"]), validate=True).decode())
            except ValueError:  # not base64, not UTF-8, or not JSON
                return codes.BAD_REQUEST
        elif "data" not in params:
            return codes.BAD_REQUEST
        if not isinstance(channel, str) or not (tags is None or is_text_map(tags)):
            return codes.BAD_REQUEST
        rules = look_up(channel, self.hub.rules.namespaces)
        if isinstance(rules, ReplyError):
            return rules
        try:
            await self.hub.publish(channel, data, tags=tags)
        except BadFrame:
            return codes.BAD_REQUEST
        except ValueError:
            return codes.LIMIT_EXCEEDED
        except NotFound:
            return codes.UNKNOWN_CHANNEL
        return {}

    async def broadcast(self, params: Params) -> Answer:
        """Publish the same to several channels; each has its own answer."""
        channels = params.get("channels")
        if not isinstance(channels, list) or not 0 < len(channels) <= MAX_CHANNELS:
            return codes.BAD_REQUEST
        return {"responses": [enveloped(await self.publish(params, channel)) for channel in channels]}

    async def unsubscribe(self, params: Params) -> Answer:
        """Take a user's clients, or one client, out of a channel."""
        user, client, channel = texts(params, "user", "client", "channel")
        if not (user or client) or not channel:
            return codes.BAD_REQUEST
        rules = look_up(channel, self.hub.rules.namespaces)
        if isinstance(rules, ReplyError):
            return rules
        code, reason = code_of(params.get("unsubscribe"), codes.UNSUBSCRIBED_BY_SERVER, "server unsubscribe")
        order = control.Order(
            op="unsubscribe", user=user, client=client, channel=channel, code=code, reason=reason
        )
        await self.hub.directory.give_order(order)
        return {}

    async def disconnect(self, params: Params) -> Answer:
        """Close a user's clients, or one client."""
        user, client = texts(params, "user", "client")
        if not (user or client):
            return codes.BAD_REQUEST
        default = codes.FORCE_NO_RECONNECT
        code, reason = code_of(params.get("disconnect"), default.code, default.reason)
        spared = params.get("whitelist") or []
        if not 3000 <= code < 5000 or not isinstance(spared, list):
            return codes.BAD_REQUEST
        why = CloseCode(code, reason[:100])
        order = control.Order(
            op="disconnect",
            user=user,
            client=client,
            code=why.code,
            reason=why.reason,
            spare=tuple(map(str, spared)),
        )
        await self.hub.directory.give_order(order)
        return {}

    async def presence(self, params: Params, *, whole: bool) -> Answer:
        """Say who, or how many, are in a channel."""
        channel = params.get("channel")
        rules = look_up(channel, self.hub.rules.namespaces) if isinstance(channel, str) else codes.BAD_REQUEST
        if isinstance(rules, ReplyError):
            return rules
        if not rules.presence or not isinstance(channel, str):
            return codes.NOT_AVAILABLE
        result: dict[str, Any] = json.loads(await self.hub.presence_desk.result(channel, whole=whole))
        return result

    async def channels(self, params: Params) -> Answer:
        """Name the channels that clients of this instance are in; `pattern` is a shell pattern."""
        pattern = params.get("pattern", "")
        if not isinstance(pattern, str) or len(pattern) > 255:
            return codes.BAD_REQUEST
        found = {
            name: {"num_clients": len(channel.sockets)}
            for name, channel in self.hub.channels.channels.items()
            if channel.sockets and (not pattern or fnmatchcase(name, pattern))
        }
        return {"channels": found}

    async def info(self) -> Answer:
        """Describe every live instance."""
        nodes = [json.loads(each.info) for each in await self.hub.directory.instances() if each.info]
        return {"nodes": nodes}

    async def batch(self, params: Params) -> Answer:
        """Do several commands, one after the other."""
        commands = params.get("commands")
        if not isinstance(commands, list) or len(commands) > MAX_BATCH:
            return codes.BAD_REQUEST
        replies: list[dict[str, Any]] = []
        for command in commands:
            if not isinstance(command, dict) or len(command) != 1:
                replies.append(enveloped(codes.BAD_REQUEST))
                continue
            ((method, inner),) = command.items()
            allowed = method in METHODS and method != "batch" and isinstance(inner, dict)
            answer = await self.call(method, inner) if allowed else codes.BAD_REQUEST
            replies.append(enveloped(answer) if isinstance(answer, ReplyError) else {method: answer})
        return {"replies": replies}


def enveloped(answer: Answer) -> dict[str, Any]:
    """Return an answer inside another one."""
    if isinstance(answer, ReplyError):
        return {"error": {"code": answer.code, "message": answer.message}}
    return {"result": answer}


def texts(params: Params, *names: str) -> Sequence[str]:
    """Return these parameters, each an empty string where it is absent or no string."""
    return [value if isinstance(value := params.get(name), str) else "" for name in names]


def code_of(given: object, code: int, reason: str) -> tuple[int, str]:
    """Return `code` and `reason` of an object a caller may have given, else what stands for it."""
    if isinstance(given, dict):
        asked, words = given.get("code"), given.get("reason")
        if type(asked) is int and 0 < asked < 65_536:
            code = asked
        if isinstance(words, str):
            reason = words[:100]
    return code, reason


def is_text_map(value: object) -> bool:
    """Whether this is an object whose values are strings."""
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
