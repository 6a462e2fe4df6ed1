"""Files that the config names: they must be there before traffic is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from silence_gateway.app.config.checks.finding import Context, Finding, Steps
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.quantities import Address, quoted


def check_files(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find files that cannot be read and sockets that cannot be made."""
    for at, path in named_files(config):
        problem = trouble_with(path)
        if problem:
            yield Finding(at=at, says=f"{quoted(str(path))} {problem}")
    sockets: list[tuple[Steps, Address]] = [(("listen", i), own) for i, own in enumerate(config.listen)]
    sockets.append((("admin", "listen"), config.admin.listen))
    if config.rls is not None:
        rls = {"listen": config.rls.listen, "json": config.rls.json_listen}
        sockets += [(("rls", key), address) for key, address in rls.items() if address is not None]
    for steps, address in sockets:
        if address.unix_path and not Path(address.unix_path).parent.is_dir():
            yield Finding(at=steps, says=f"the directory of {quoted(address.unix_path)} does not exist")


def named_files(config: GatewayConfig) -> Iterator[tuple[Steps, Path]]:
    """Go through every file that the config names."""
    if config.tls is not None:
        yield ("tls", "certificate"), config.tls.certificate
        yield ("tls", "key"), config.tls.key
        if config.tls.client_ca is not None:
            yield ("tls", "client_ca"), config.tls.client_ca
    for name, upstream in config.upstreams.items():
        at: Steps = ("upstreams", name)
        for index, source in enumerate(upstream.descriptors):
            if source != "reflection":
                yield (*at, "descriptors", index), Path(source)
        if upstream.tls is not None:
            for key in ("ca", "certificate", "key"):
                path: Path | None = getattr(upstream.tls, key)
                if path is not None:
                    yield (*at, "tls", key), path


def trouble_with(path: Path) -> str:
    """Return why *path* cannot be read as a file, or nothing."""
    try:
        if not path.exists():
            return "does not exist"
        if not path.is_file():
            return "is not a file"
        with path.open("rb"):
            return ""
    except OSError as exc:
        return f"cannot be read: {exc.strerror or exc}"
