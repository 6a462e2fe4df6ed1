"""
Showing something again and again, like top: in place on a terminal, one after the other anywhere else.

Blocking, until Ctrl-C. A gateway that does not answer is shown as such, and asked again: whoever watches
wants to see it come back.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime

from silence_gateway.errors import GatewayError

HOME = "\x1b[H"
CLEAR_LINE = "\x1b[K"
CLEAR_BELOW = "\x1b[J"
CLEAR = f"{HOME}\x1b[2J"


def watch(
    draw: Callable[[], str],
    *,
    every_s: float,
    on_screen: bool,
    say: Callable[[str], None],
    sleep: Callable[[float], None],
    now_us: Callable[[], int],
) -> None:
    """
    Show what *draw* returns every *every_s* seconds, until interrupted.

    Args:
        draw: Returns what there is to see; a GatewayError is shown instead, but for the first time.
        every_s: Seconds from one to the next.
        on_screen: Whether there is a terminal whose screen is ours.
        say: Writes a text as it is.
        sleep: Waits so many seconds.
        now_us: Tells the time, in microseconds since the Unix epoch.

    Raises:
        GatewayError: The first attempt failed.
    """
    text = draw()
    if on_screen:
        say(CLEAR)
    try:
        while True:
            title = f"{datetime.fromtimestamp(now_us() / 1e6, UTC):%H:%M:%S}Z, every {every_s:g} s"
            say(in_place(title, text) if on_screen else f"-- {title}\n{text}\n\n")
            sleep(every_s)
            try:
                text = draw()
            except GatewayError as error:
                text = str(error)
    except KeyboardInterrupt:
        # This is how it ends. The last picture stays, and the prompt comes below it.
        if on_screen:
            say("\n")


def repeat(
    draw: Callable[[], str], *, every_s: float, say: Callable[[str], None], sleep: Callable[[float], None]
) -> None:
    """
    Write what *draw* returns as a line for a program every *every_s* seconds, until interrupted.

    Raises whatever *draw* does: a program is told by the exit code.
    """
    try:
        while True:
            say(f"{draw()}\n")
            sleep(every_s)
    except KeyboardInterrupt:
        return


def in_place(title: str, text: str) -> str:
    """Return what puts *text* where the last one was, as far as the screen has room."""
    rows = shutil.get_terminal_size().lines - 2
    lines = [f"{title}; Ctrl-C ends", *text.split("\n")]
    if len(lines) > rows:
        lines = [*lines[: rows - 1], f"({len(lines) - rows + 1} more lines)"]
    return HOME + "".join(f"{line}{CLEAR_LINE}\n" for line in lines) + CLEAR_BELOW
