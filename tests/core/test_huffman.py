"""Huffman decoding agrees with the reference for everything it accepts, and refuses the rest."""

from __future__ import annotations

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman as reference_decode
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.huffman import HuffmanError, decode_huffman

ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


@settings(deadline=None)
@given(text=st.binary(max_size=200))
def test_every_string_comes_back(text: bytes) -> None:
    assert decode_huffman(ENCODER.encode(text)) == text


@settings(max_examples=200, deadline=None)
@given(coded=st.binary(max_size=12))
def test_arbitrary_bytes_are_decoded_or_refused(coded: bytes) -> None:
    """What we accept, the reference decodes to the same; what we refuse does not encode anything."""
    try:
        text = decode_huffman(coded)
    except HuffmanError:
        return

    assert ENCODER.encode(text) == coded
    assert bytes(reference_decode(coded)) == text


@pytest.mark.parametrize(
    "coded",
    [
        pytest.param(b"\x00", id="padding-of-zeros"),
        pytest.param(b"\x1f\xff", id="a-whole-byte-of-padding"),
        pytest.param(b"\xff\xff\xff\xff", id="end-of-string-symbol"),
        pytest.param(b"\xff\xff\xff\xfc", id="end-of-string-symbol-and-zeros"),
        pytest.param(b"\xff", id="nothing-but-padding-of-eight-bits"),
    ],
)
def test_bad_padding_and_end_of_string_are_refused(coded: bytes) -> None:
    with pytest.raises(HuffmanError):
        decode_huffman(coded)
