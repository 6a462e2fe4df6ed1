"""
How durations, sizes, addresses and the other single values of the file are written and read.

Pure: text in, value out, ValueError with a sentence for a tired operator. Every message says what is
wrong and what is right. Nothing here knows about YAML, models or files.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

SHOWN_CHARACTERS = 60  # of a wrong value in a message: enough to recognise it, not enough to flood a log
SHOWN_OF_A_PATH = 240  # its end names the file, and is what is wrong

UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
UNIT_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
# What people write instead; used for suggestions only.
DURATION_SLIPS = {
    "": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "msec": "ms", "millis": "ms",
    "milliseconds": "ms", "min": "m", "mins": "m", "minute": "m", "minutes": "m", "hr": "h",
    "hrs": "h", "hour": "h", "hours": "h", "day": "d", "days": "d",
}  # fmt: skip
SIZE_SLIPS = {
    "": "B", "bytes": "B", "k": "KiB", "kb": "KiB", "kib": "KiB", "m": "MiB", "mb": "MiB",
    "mib": "MiB", "g": "GiB", "gb": "GiB", "gib": "GiB",
}  # fmt: skip

NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,6})?"
DURATION_PATTERN = rf"{NUMBER}(?:ms|s|m|h|d)"
SIZE_PATTERN = rf"{NUMBER}(?:B|KiB|MiB|GiB)"
WHOLE_PATTERN = r"[0-9]{1,15}"
RATIO_PATTERN = NUMBER
HOST_PATTERN = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?"
NUMBER_AND_WORD = re.compile(rf"\s*({NUMBER})\s*([A-Za-z]*)\s*")

# sun_path holds 108 bytes with its closing NUL on Linux, 104 on macOS.
MAX_UNIX_PATH_BYTES = 103


def quoted(text: str) -> str:
    """Return *text* in quotes for a message, shortened and with nothing a terminal would act on."""
    shown = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
    return repr(shown)


def quoted_path(path: object) -> str:
    """Return *path* in quotes for a message; of a very long one the end, which tells the file."""
    text = str(path)
    return repr(text if len(text) <= SHOWN_OF_A_PATH else f"...{text[3 - SHOWN_OF_A_PATH :]}")


def did_you_mean(suggestion: str) -> str:
    """Return the hint that ends a message, or nothing where there is no suggestion."""
    return f" (did you mean {quoted(suggestion)}?)" if suggestion else ""


def parse_duration(text: str) -> float:
    """
    Return the seconds that *text* says: `250ms`, `5s`, `1m`, `24h`, `7d`.

    Raises:
        ValueError: If it is anything else; a unit is never guessed.
    """
    found = NUMBER_AND_WORD.fullmatch(text)
    if found is not None and found[2] in UNIT_SECONDS and found[0] == found[1] + found[2]:
        number, unit = float(found[1]), found[2]
        # Dividing keeps 250ms exactly 0.25; multiplying by 0.001 would not always.
        return number / 1000 if unit == "ms" else number * UNIT_SECONDS[unit]
    hint = ""
    if found is not None:
        unit = found[2].lower()
        unit = DURATION_SLIPS.get(unit, unit)
        hint = found[1] + unit if unit in UNIT_SECONDS else ""
    raise ValueError(f"{quoted(text)} is not a duration: write 250ms, 5s, 1m, 24h or 7d{did_you_mean(hint)}")


def show_duration(seconds: float) -> str:
    """Return *seconds* as the file writes them, in the largest unit that divides them."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    for unit, factor in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % factor == 0:
            return f"{milliseconds // factor}{unit}"
    return f"{milliseconds}ms"


def parse_size(text: str) -> int:
    """
    Return the bytes that *text* says: `512B`, `64KiB`, `1MiB`, `2GiB`.

    Raises:
        ValueError: If it is anything else, or not a whole number of bytes.
    """
    found = NUMBER_AND_WORD.fullmatch(text)
    if found is not None and found[2] in UNIT_BYTES and found[0] == found[1] + found[2]:
        size = float(found[1]) * UNIT_BYTES[found[2]]
        if size.is_integer():
            return int(size)
        raise ValueError(f"{quoted(text)} is not a whole number of bytes: write 512B, 64KiB, 1MiB or 2GiB")
    unit = SIZE_SLIPS.get(found[2].lower(), "") if found is not None else ""
    hint = found[1] + unit if found is not None and unit else ""
    raise ValueError(f"{quoted(text)} is not a size: write 512B, 64KiB, 1MiB or 2GiB{did_you_mean(hint)}")


def show_size(size: int) -> str:
    """Return *size* in bytes as the file writes it, in the largest unit that divides it."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % UNIT_BYTES[unit] == 0:
            return f"{size // UNIT_BYTES[unit]}{unit}"
    return f"{size}B"


def parse_whole(text: str) -> int:
    """
    Return the whole number that *text* says.

    Raises:
        ValueError: If it is not one, or has more than 15 digits.
    """
    if not re.fullmatch(WHOLE_PATTERN, text):
        raise ValueError(f"{quoted(text)} is not a whole number: write digits only, such as 4")
    return int(text)


def parse_ratio(text: str, *, or_none: bool = False) -> float:
    """
    Return the share that *text* says, above 0 and at most 1; 0 as well if it may be *or_none*.

    Raises:
        ValueError: If it is not a number in that range.
    """
    if re.fullmatch(RATIO_PATTERN, text) and (0 < float(text) <= 1 or (or_none and not float(text))):
        return float(text)
    hint = ""
    percent = re.fullmatch(r"([0-9]{1,3})\s*%?", text)
    if percent is not None and 0 < int(percent[1]) <= 100:
        hint = f"{int(percent[1]) / 100:g}"
    bounds = "from 0 to 1" if or_none else "above 0 and up to 1"
    raise ValueError(f"{quoted(text)} is not a share: write a number {bounds}{did_you_mean(hint)}")


def parse_flag(text: str) -> bool:
    """
    Return what `true` or `false` means.

    Raises:
        ValueError: For every other word: YAML's `yes` and `on` have surprised too many.
    """
    if text in {"true", "false"}:
        return text == "true"
    slip = text.lower()
    hint = (
        "true"
        if slip in {"true", "yes", "on", "1"}
        else "false"
        if slip in {"false", "no", "off", "0"}
        else ""
    )
    raise ValueError(f"{quoted(text)} is neither true nor false{did_you_mean(hint)}")


def parse_network(text: str) -> Network:
    """
    Return the network of addresses that *text* names: a CIDR block, or one address.

    Raises:
        ValueError: If it is neither, or has bits set right of its prefix.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        try:
            hint = str(ipaddress.ip_network(text, strict=False))
        except ValueError:
            hint = ""
        raise ValueError(
            f"{quoted(text)} is not a network: write 10.0.0.0/8, 2001:db8::/32 or one address"
            f"{did_you_mean(hint)}"
        ) from exc


def show_network(network: Network) -> str:
    """Return *network* as the file writes it: one address loses its prefix."""
    return str(network.network_address) if network.num_addresses == 1 else str(network)


@dataclass(frozen=True, slots=True)
class Address:
    """
    A place to listen at or to connect to: a host and a port, or a unix socket.

    Attributes:
        host: Name or IP address without brackets; empty for a unix socket.
        port: 0 means one that the system picks, and for a unix socket.
        unix_path: Path of the socket; empty for host and port.
    """

    host: str = ""
    port: int = 0
    unix_path: str = ""

    def __str__(self) -> str:
        if self.unix_path:
            return f"unix:{self.unix_path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.unix_path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str, *, any_port: bool = True) -> Address:
    """
    Return the address that *text* names: `host:port`, `[::1]:port` or `unix:PATH`.

    Args:
        text: What the file says.
        any_port: Whether port 0 is accepted.

    Raises:
        ValueError: If it is anything else.
    """
    forms = "127.0.0.1:8080, [::1]:8080 or unix:/run/gateway.sock"
    if text.startswith("unix:"):
        return _unix_address(text)
    found = re.fullmatch(rf"(?:\[([0-9A-Fa-f:.%\w]+)\]|({HOST_PATTERN})):([0-9]{{1,5}})", text, re.ASCII)
    if found is None:
        # Without it whoever follows the hint would speak plain text to a port of TLS.
        secure = "; TLS is said by the key tls" if re.match(r"\s*(https|grpcs)://", text) else ""
        raise ValueError(
            f"{quoted(text)} is not an address: write {forms}{did_you_mean(_address_hint(text))}{secure}"
        )
    if found[1] is not None:
        try:
            ipaddress.IPv6Address(found[1])
        except ValueError as exc:
            raise ValueError(f"{quoted(text)} is not an address: {exc}; write {forms}") from exc
    elif re.fullmatch(r"[0-9.]+", found[2]):
        try:
            ipaddress.IPv4Address(found[2])
        except ValueError as exc:
            raise ValueError(f"{quoted(text)} is not an address: {exc}; write {forms}") from exc
    port = int(found[3])
    if port > 65535 or (port == 0 and not any_port):
        raise ValueError(f"{quoted(text)} has no usable port: ports are {0 if any_port else 1} to 65535")
    return Address(host=found[1] or found[2], port=port)


def _unix_address(text: str) -> Address:
    path = text.removeprefix("unix:").removeprefix("//")
    if not path or "\0" in path:
        raise ValueError(f"{quoted(text)} names no socket: write unix:/run/gateway.sock")
    if len(path.encode("utf-8", "surrogatepass")) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"{quoted(text)} is too long: socket paths hold {MAX_UNIX_PATH_BYTES} bytes at most")
    return Address(unix_path=path)


def _address_hint(text: str) -> str:
    """Return what was probably meant by an address we do not read."""
    bare = re.sub(r"^[a-z][a-z0-9+]{0,10}://", "", text.strip()).rstrip("/")
    if re.fullmatch(r":?[0-9]{1,5}", bare):
        return f"127.0.0.1:{bare.lstrip(':')}"
    if re.fullmatch(r"\*:[0-9]{1,5}", bare):
        return f"0.0.0.0{bare[1:]}"  # noqa: S104 - shown, never bound
    host, _, port = bare.rpartition(":")
    if host.count(":") >= 2 and re.fullmatch(r"[0-9]{1,5}", port):
        try:
            return f"[{ipaddress.IPv6Address(host)}]:{port}"
        except ValueError:
            return ""
    if bare != text and re.fullmatch(rf"{HOST_PATTERN}:[0-9]{{1,5}}", bare):
        return bare
    return ""


def mask_url(url: str) -> str:
    """Return *url* with its password, if any, replaced by stars."""
    # Everything before the last @ may be a password, however oddly it is written: mask generously.
    head, at, host = url.rpartition("@")
    if not at:
        return url
    scheme, slashes, credentials = head.partition("://")
    if not slashes:
        return f"***@{host}"
    user, colon, _ = credentials.partition(":")
    return f"{scheme}://{user if colon else '***'}{':***' if colon else ''}@{host}"
