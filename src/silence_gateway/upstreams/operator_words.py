"""
What operators said about the endpoints of one upstream, as the fleet knows it.

The room of the board is `operators/<upstream>`. Each instance writes under a name of its own, and a mark
beside it that says that all before is taken back (`core/operator_words.py` says why). So what was taken back
while the store was away stays taken back, whatever the store or an instance that was cut off comes back with.

What the store lost (it was restored from an older copy, say) is given back by all who have heard it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic

from silence_gateway.core.operator_words import MarkFact, Matter, W, read_mark, written_mark
from silence_gateway.errors import StoreFault
from silence_gateway.stores.contracts import Board
from silence_gateway.upstreams.endpoint import Spawn

KEPT_S = 30 * 86_400.0
"""How long it is remembered that something was taken back; no word with an end may last longer."""


class OperatorWords(Generic[W]):
    """
    Words of one *kind*, by address.

    Arguments:
        kind: What they are about; part of their names.
        upstream: Whose endpoints they are about.
        board: What the fleet shares; None for this instance alone.
        instance: How this one signs; must be unique in the fleet.
        spawn: Begins background work.
        read: Returns the word in a value, or raises ValueError.
        write: Returns a word as a value.
        lasts_s: Returns how long a word holds from now on; None until it is taken back.
        on_change: Called with an address when others have changed what is in force for it.

    Attributes:
        malformed: Values on the board that were refused.
    """

    def __init__(
        self,
        kind: str,
        upstream: str,
        board: Board | None,
        *,
        instance: str,
        spawn: Spawn,
        read: Callable[[bytes], W],
        write: Callable[[W], bytes],
        lasts_s: Callable[[W], float | None],
        on_change: Callable[[str], None],
    ) -> None:
        self.malformed = 0
        self._kind = kind
        self._mark_kind = f"{kind}-mark"
        self._room = f"operators/{upstream}"
        self._board = board
        self._instance = instance
        self._spawn = spawn
        self._read = read
        self._write = write
        self._lasts_s = lasts_s
        self._on_change = on_change
        self._matters: dict[str, Matter[W]] = {}
        self._ending: set[str] = set()
        self._giving: set[str] = set()
        self._left = False

    def join(self) -> None:
        """Take over what was said, and hear of more from now on."""
        if self._board is not None:
            known = self._board.watch(self._room, self._changed, self._ended)
            for name, value in list(known.items()):
                self._changed(name, value)

    async def heard(self) -> None:
        """Wait until what was said before we came is known, however long the store is away."""
        if self._board is not None:
            await self._board.known(self._room)

    def leave(self) -> None:
        """Hear no more."""
        self._left = True

    def in_force(self, address: str) -> W | None:
        """Return the word that counts for *address*."""
        matter = self._matters.get(address)
        return None if matter is None else matter.in_force

    def taken_back(self, address: str) -> MarkFact | None:
        """Return who last took back what was said about *address*, or said something else instead."""
        matter = self._matters.get(address)
        return None if matter is None else matter.mark

    def next_us(self, address: str, now_us: int) -> int:
        """Return the date of what is said about *address* at *now_us*: later than all that was heard."""
        return self._matters.setdefault(address, Matter()).next_us(now_us)

    def say(self, address: str, word: W | None, mark: MarkFact) -> Coroutine[Any, Any, bool]:
        """
        Let *word* count for *address* here from now on, or nothing; *mark* is of the same moment.

        Await what is returned to tell the fleet: False if the store could not be told, and the others hear
        of it when the store is back, if this instance lives as long.

        Raises:
            ValueError: If the others would refuse to read this; then nothing has changed.
        """
        matter = self._matters.setdefault(address, Matter())
        facts: list[tuple[str, bytes, float | None]] = []
        # A word goes before its mark, or the others would find nothing in force for a moment.
        if word is not None:
            facts.append((self._name(self._kind, address), self._write(word), self._lasts_s(word)))
            self._read(facts[0][1])
        facts.append((self._name(self._mark_kind, address), written_mark(mark), KEPT_S))
        read_mark(facts[-1][1])
        older = [self._name(self._kind, address, by) for by in matter.words if word is None or by != word.by]
        older += [self._name(self._mark_kind, address, by) for by in matter.marks if by != mark.by]
        matter.words = {} if word is None else {word.by: word}
        matter.marks = {mark.by: mark}
        return self._tell(facts, older)

    async def _tell(self, facts: Sequence[tuple[str, bytes, float | None]], older: Sequence[str]) -> bool:
        board = self._board
        if board is None:
            return False
        outcomes = await asyncio.gather(
            *(board.put(self._room, name, value, lasts_s) for name, value, lasts_s in facts),
            # What is older counts no more; it is taken away to keep the room small.
            *(board.remove(self._room, name) for name in older),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, StoreFault):
                raise outcome
        return not any(isinstance(outcome, StoreFault) for outcome in outcomes[: len(facts)])

    def _name(self, kind: str, address: str, by: str = "") -> str:
        return f"{kind}/{address}/{by or self._instance}"

    def _ended(self, name: str) -> None:
        # The board calls this just before it tells of the change.
        if not self._left:
            self._ending.add(name)

    def _changed(self, name: str, value: bytes | None) -> None:
        kind, _, rest = name.partition("/")
        address, _, by = rest.rpartition("/")
        ended = name in self._ending
        self._ending.discard(name)
        if self._left or kind not in (self._kind, self._mark_kind) or not address:
            return
        matter = self._matters.setdefault(address, Matter())
        before = matter.in_force
        if value is None:
            self._gone(matter, name, by, is_mark=kind == self._mark_kind, ended=ended)
        else:
            try:
                self._hear(matter, by, value, is_mark=kind == self._mark_kind)
            except ValueError:
                self.malformed += 1
        after = matter.in_force
        if not matter.words and not matter.marks:
            del self._matters[address]
        if after is not before:
            self._on_change(address)

    def _hear(self, matter: Matter[W], by: str, value: bytes, *, is_mark: bool) -> None:
        fact = read_mark(value) if is_mark else self._read(value)
        if fact.by != by:
            raise ValueError(f"what is signed by {fact.by} is not {by}'s to say")
        if isinstance(fact, MarkFact):
            matter.hear_mark(fact)
        else:
            matter.hear(fact)

    def _gone(self, matter: Matter[W], name: str, by: str, *, is_mark: bool, ended: bool) -> None:
        """Forget what ended or was tidied away; what counts and was lost is given back."""
        if is_mark:
            mark = matter.marks.get(by)
            if mark is None:
                return
            if ended or mark is not matter.mark:
                del matter.marks[by]
            elif name not in self._giving:
                self._spawn(self._give_back(name, written_mark(mark), KEPT_S))
            return
        word = matter.words.get(by)
        if word is None:
            return
        lasts_s = self._lasts_s(word)
        if ended or word is not matter.in_force or (lasts_s is not None and lasts_s <= 0):
            del matter.words[by]
        elif name not in self._giving:
            self._spawn(self._give_back(name, self._write(word), lasts_s))

    async def _give_back(self, name: str, value: bytes, lasts_s: float | None) -> None:
        """Write again what the store has lost; a board that cannot now does it when it can."""
        if self._board is None or name in self._giving:
            return
        self._giving.add(name)
        try:
            await self._board.put(self._room, name, value, lasts_s)
        except StoreFault:
            # It stays in force here.
            return
        finally:
            self._giving.discard(name)
