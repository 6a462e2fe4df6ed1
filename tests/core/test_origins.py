"""Which pages may open a WebSocket here."""

from __future__ import annotations

import pytest

from silence_gateway.core.origins import origin_allowed


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "answer"),
    [
        ("", "app.example.com", (), True),
        ("https://app.example.com", "app.example.com", (), True),
        ("http://app.example.com", "app.example.com", (), True),
        ("https://app.example.com:443", "app.example.com", (), True),
        ("https://APP.example.com", "app.Example.com:443", (), True),
        ("http://app.example.com:8080", "app.example.com:8080", (), True),
        ("http://app.example.com:8080", "app.example.com", (), False),
        ("https://evil.example.com", "app.example.com", (), False),
        ("https://app.example.com.evil.com", "app.example.com", (), False),
        ("https://other.example.com", "app.example.com", ("https://other.example.com/",), True),
        ("https://other.example.com", "app.example.com", ("*",), True),
        ("http://other.example.com", "app.example.com", ("https://other.example.com",), False),
        ("null", "app.example.com", (), False),
        ("file://", "", (), False),
        ("https://[::1", "app.example.com", (), False),
        ("https://", "", (), False),
    ],
)
def test_pages_of_this_host_and_of_listed_origins_may_connect(
    origin: str, host: str, allowed: tuple[str, ...], answer: bool
) -> None:
    assert origin_allowed(origin, host, allowed) is answer
