"""The numbers that client libraries act on."""

from __future__ import annotations

from silence_gateway.core import centrifuge_codes as codes

ALL_CLOSES = [each for each in vars(codes).values() if isinstance(each, codes.CloseCode)]


def test_every_error_of_the_protocol_is_known_once() -> None:
    assert sorted(codes.ERRORS) == list(range(100, 114))


def test_close_codes_are_in_the_class_that_clients_read_from_them() -> None:
    terminal = {each.code for each in ALL_CLOSES if each.terminal}

    assert terminal == set(range(3500, 3510))
    assert len({each.code for each in ALL_CLOSES}) == len(ALL_CLOSES)


def test_reasons_fit_into_a_close_frame() -> None:
    assert all(0 < len(each.reason.encode()) <= 123 for each in ALL_CLOSES)
