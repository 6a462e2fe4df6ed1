"""
What a program says to the limiter, checked for its type before it reaches any arithmetic.

A cost of 1.5 would be counted, a key of bytes be a key of its own, and `None` fail somewhere deep inside.
"""

from __future__ import annotations

from silence_gateway.core.limits import Decision


def check_ask(key: object, cost: object) -> None:
    """
    Refuse what is no key or no cost.

    Raises:
        TypeError: The key is no text, or the cost no whole number; the text says which.
    """
    check_type("a key", key, str, "a str")
    check_type("a cost", cost, int, "an int")


def check_change(key: object, cost: object, after: object) -> None:
    """
    Refuse what nothing can be charged or given back by.

    Raises:
        TypeError: A key is no text, a cost no whole number, or *after* no decision; the text says which.
    """
    check_ask(key, cost)
    if not isinstance(after, Decision):
        raise TypeError(f"after is the Decision that acquire returned, not {name_of_type(after)}")


def check_type(name: str, value: object, kinds: type | tuple[type, ...], words: str) -> None:
    """
    Refuse a value of another type.

    Args:
        name: What the argument is called, as a message begins.
        value: What was given.
        kinds: What it has to be.
        words: The same in words.

    Raises:
        TypeError: It is none of *kinds*.
    """
    if not isinstance(value, kinds):
        raise TypeError(f"{name} is {words}, not {name_of_type(value)}")


def name_of_type(value: object) -> str:
    """Return how the type of *value* is called."""
    return "None" if value is None else type(value).__name__
