"""
Heads of answers, checked by llhttp and taken apart by `core/http_answer_head.py`.

llhttp gets one whole head at a time and has no callbacks. Servers repeat themselves, in all but the second
of their Date, so whole heads are remembered by their bytes: 0.1 us instead of 6.
"""

from __future__ import annotations

import httptools

from silence_gateway.core.http_answer_head import AnswerHead, MalformedAnswer, read_answer_head

MAX_REMEMBERED = 256
MAX_REMEMBERED_BYTES = 1024
"""The longest head remembered; all are forgotten when there is no more room."""


class NoCallbacks:
    """What llhttp calls: nothing."""

    __slots__ = ()


class AnswerHeads:
    """Reads whole heads of answers; one per upstream."""

    __slots__ = ("_remembered",)

    def __init__(self) -> None:
        self._remembered: dict[bytes, AnswerHead] = {}

    def read(self, head: bytes) -> AnswerHead:
        """
        Return what *head* says; it ends in its first empty line.

        Raises:
            MalformedAnswer: If it breaks a rule of HTTP.
        """
        known = self._remembered.get(head)
        if known is not None:
            return known
        try:
            httptools.HttpResponseParser(NoCallbacks()).feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # 101; whether that was asked for is for the connection to say
        except httptools.HttpParserError as error:
            raise MalformedAnswer(str(error)) from error
        answer = read_answer_head(head)
        if len(head) <= MAX_REMEMBERED_BYTES:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[head] = answer
        return answer
