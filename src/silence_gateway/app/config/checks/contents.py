"""Files that are there and cannot be used: certificates, keys and descriptors."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from silence_gateway.app.config.checks.files import trouble_with
from silence_gateway.app.config.checks.finding import Context, Finding, Steps
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.quantities import quoted_path
from silence_gateway.errors import ConfigError
from silence_gateway.transcoding.descriptors import FileSource


def check_contents(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find TLS files that are not what their key says, and descriptors that are none."""
    if config.tls is not None:
        yield from trouble_with_tls(
            ("tls",), "client_ca", config.tls.client_ca, config.tls.certificate, config.tls.key
        )
    if config.store.tls is not None:
        tls = config.store.tls
        yield from trouble_with_tls(("store", "tls"), "ca", tls.ca, tls.certificate, tls.key)
    for name, upstream in config.upstreams.items():
        if upstream.tls is not None:
            own = upstream.tls
            yield from trouble_with_tls(("upstreams", name, "tls"), "ca", own.ca, own.certificate, own.key)
        for index, source in enumerate(upstream.descriptors):
            if source != "reflection" and not trouble_with(Path(source)):
                try:
                    FileSource([source]).read_now()
                except ConfigError as exc:
                    yield Finding(at=("upstreams", name, "descriptors", index), says="; ".join(exc.problems))


def trouble_with_tls(
    at: Steps, ca_key: str, ca: Path | None, certificate: Path | None, key: Path | None
) -> Iterator[Finding]:
    """Find what cannot be used of the files of one `tls` section; `check_files` tells those not there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    usable = set()
    for name, path in ((ca_key, ca), ("certificate", certificate)):
        if path is None or trouble_with(path):
            continue
        try:
            context.load_verify_locations(path)
            usable.add(name)
        except (OSError, ssl.SSLError):
            yield Finding(at=(*at, name), says=f"{quoted_path(path)} holds no certificate in PEM form")
    if "certificate" not in usable or key is None or trouble_with(key):
        return
    assert certificate is not None
    try:
        # Without a word for it the library would ask whoever is at the terminal for a passphrase.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ssl.SSLError) as exc:
        mismatch = isinstance(exc, ssl.SSLError) and exc.reason == "KEY_VALUES_MISMATCH"
        says = (
            f"is the key of another certificate than {quoted_path(certificate)}"
            if mismatch
            else "holds no private key in PEM form without a passphrase"
        )
        yield Finding(at=(*at, "key"), says=f"{quoted_path(key)} {says}")
