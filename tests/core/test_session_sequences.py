"""Any sequence of commands, answers, ticks and ends: the session never raises and its books agree."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from silence_gateway.core import centrifuge_codes as codes
from silence_gateway.core.channels import NamespaceRules
from silence_gateway.core.session import MAX_PENDING, Session
from silence_gateway.core.session_effects import (
    AskPresence,
    Attach,
    Close,
    Effect,
    Join,
    Leave,
    Publish,
    Verify,
)
from silence_gateway.core.session_rules import Identity, SessionRules
from silence_gateway.core.session_state import TRANSITIONS, State

SECOND_US = 1_000_000
RULES = SessionRules(
    namespaces={
        "": NamespaceRules(max_subscriptions=3),
        "chat": NamespaceRules(publish=True, presence=False, max_subscriptions=2),
    }
)
ANN = Identity(user="ann", authenticated=True)


def frame(*commands: dict[str, Any]) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in commands)


CHANNELS = st.sampled_from(["a", "b", "c", "d", "chat:a", "chat:b", "chat:c", "nowhere:a", "$p", "", "x#ann"])
COMMANDS = st.builds(
    lambda command_id, method, params: {"id": command_id, method: params},
    st.integers(0, 6),
    st.sampled_from(
        ["connect", "subscribe", "unsubscribe", "publish", "presence", "history", "refresh", "send", "?"]
    ),
    st.fixed_dictionaries(
        {"channel": CHANNELS | st.none(), "token": st.just("t")}, optional={"data": st.just(1)}
    ),
)


class Conversation(RuleBasedStateMachine):
    """Whatever a client sends and however the outside answers, the session keeps its word."""

    @initialize(well_behaved=st.booleans())
    def begin(self, well_behaved: bool) -> None:
        self.session = Session(RULES, "c1", 0, 20 * SECOND_US)
        self.now_us = 0
        self.asked: dict[int, Effect] = {}
        self.joined: set[str] = set()
        self.attached: set[str] = set()
        self.answered: list[int] = []
        self.over = False
        self.state = self.session.state
        if well_behaved:
            self.take(self.session.on_frame(frame({"id": 9, "connect": {}})))
            self.take(self.session.on_verified(9, ANN, 0))
            self.asked.clear()

    def take(self, effects: list[Effect]) -> None:
        if self.session.state is not self.state:
            reachable = {self.state}
            for _ in State:
                reachable |= {after for each in reachable for after in TRANSITIONS[each]}
            assert self.session.state in reachable
            self.state = self.session.state
        for effect in effects:
            assert not self.over or isinstance(effect, Leave)
            match effect:
                case Attach(command_id, channel):
                    assert channel not in self.attached
                    self.attached.add(channel)
                    self.asked[command_id] = effect
                case Join(channel):
                    assert channel in self.attached
                    self.joined.add(channel)
                case Leave(channel, joined):
                    assert joined == (channel in self.joined)
                    self.attached.remove(channel)
                    self.joined.discard(channel)
                case Verify(command_id) | Publish(command_id) | AskPresence(command_id):
                    assert command_id not in self.asked
                    self.asked[command_id] = effect
                case Close():
                    self.over = True
                case _:
                    pass

    @rule(commands=st.lists(COMMANDS, min_size=1, max_size=4))
    def client_sends(self, commands: list[dict[str, Any]]) -> None:
        self.take(self.session.on_frame(frame(*commands)))

    @rule(payload=st.sampled_from([b"{}", b"", b"\xff", b"[", b"{}\n{}"]))
    def client_sends_something_odd(self, payload: bytes) -> None:
        self.take(self.session.on_frame(payload))

    @rule(good=st.booleans(), pick=st.integers(0, 10))
    def outside_answers(self, good: bool, pick: int) -> None:
        if not self.asked:
            return
        command_id = sorted(self.asked)[pick % len(self.asked)]
        effect = self.asked.pop(command_id)
        if not good:
            self.take(self.session.on_failed(command_id, codes.INTERNAL))
        elif isinstance(effect, Verify):
            self.take(self.session.on_verified(command_id, ANN, self.now_us))
        elif isinstance(effect, Attach):
            self.take(self.session.on_attached(command_id))
        else:
            self.take(self.session.on_answer(command_id, b"{}"))

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.now_us += seconds * SECOND_US
        self.take(self.session.on_tick(self.now_us))

    @rule(channel=CHANNELS)
    def server_unsubscribes(self, channel: str) -> None:
        self.take(self.session.unsubscribe(channel, 2000, ""))

    @rule(lost=st.booleans())
    def it_ends(self, lost: bool) -> None:
        self.take(self.session.lost() if lost else self.session.close(codes.SHUTDOWN))

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "session"):
            return
        session = self.session
        assert set(session.channels) == self.attached
        assert {name for name, settled in session.channels.items() if settled} == self.joined
        assert len(session.pending) <= MAX_PENDING
        if session.over:
            assert not session.channels
            assert not session.pending
            assert not session.waiting


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
