"""Files that the config names: they must be there before traffic is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Mapping as MappingOf
from pathlib import Path

from silence_gateway.app.config.api_keys import read_key_file
from silence_gateway.app.config.checks.finding import Context, Finding, Steps
from silence_gateway.app.config.document import MAX_BYTES
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.quantities import Address, quoted_path
from silence_gateway.app.config.store import StoreTlsConfig
from silence_gateway.app.config.upstreams import UpstreamTlsConfig
from silence_gateway.errors import ConfigError
from silence_gateway.file_watch import content_of
from silence_gateway.limiting.access_files import MAX_LIST_BYTES, read_list_file
from silence_gateway.upstreams.discovery_file import MAX_FILE_BYTES, read_endpoints


def check_files(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find files that cannot be read and sockets that cannot be made."""
    for at, path in named_files(config):
        problem = trouble_with(path)
        if problem:
            yield Finding(at=at, says=f"{quoted_path(path)} {problem}")
    sockets: list[tuple[Steps, Address]] = [(("listen", i), own) for i, own in enumerate(config.listen)]
    sockets.append((("admin", "listen"), config.admin.listen))
    if config.rls is not None:
        rls = {"listen": config.rls.listen, "json": config.rls.json_listen}
        sockets += [(("rls", key), address) for key, address in rls.items() if address is not None]
    for steps, address in sockets:
        if address.unix_path and not Path(address.unix_path).parent.is_dir():
            yield Finding(at=steps, says=f"the directory of {quoted_path(address.unix_path)} does not exist")


def named_files(config: GatewayConfig) -> Iterator[tuple[Steps, Path]]:
    """Go through every file that the config names."""
    if config.tls is not None:
        yield ("tls", "certificate"), config.tls.certificate
        yield ("tls", "key"), config.tls.key
        if config.tls.client_ca is not None:
            yield ("tls", "client_ca"), config.tls.client_ca
    if config.store.password_file is not None:
        yield ("store", "password_file"), config.store.password_file
    if config.store.tls is not None:
        yield from tls_files(("store", "tls"), config.store.tls)
    for key in ("allow_files", "deny_files"):
        for index, path in enumerate(getattr(config.access, key)):
            yield ("access", key, index), path
    if config.auth is not None and config.auth.api_keys is not None:
        yield ("auth", "api_keys", "file"), config.auth.api_keys.file
    for name, upstream in config.upstreams.items():
        at: Steps = ("upstreams", name)
        for index, source in enumerate(upstream.descriptors):
            if source != "reflection":
                yield (*at, "descriptors", index), Path(source)
        for index, endpoint in enumerate(upstream.endpoints):
            if endpoint.file is not None:
                yield (*at, "endpoints", index, "file"), endpoint.file
        if upstream.tls is not None:
            yield from tls_files((*at, "tls"), upstream.tls)


def tls_files(at: Steps, tls: StoreTlsConfig | UpstreamTlsConfig) -> Iterator[tuple[Steps, Path]]:
    """Go through the files of one `tls` section."""
    for key in ("ca", "certificate", "key"):
        path: Path | None = getattr(tls, key)
        if path is not None:
            yield (*at, key), path


def problems_elsewhere(config: GatewayConfig, environment: MappingOf[str, str]) -> Iterator[str]:
    """Read the lists and keys in files of their own; returns what is wrong there, `file:line: message`."""
    readers: list[tuple[Path, int, Callable[[Path, bytes], object]]] = [
        (path, MAX_LIST_BYTES, read_list_file)
        for path in dict.fromkeys([*config.access.allow_files, *config.access.deny_files])
    ]
    if config.auth is not None and config.auth.api_keys is not None:
        path = config.auth.api_keys.file
        readers.append((path, MAX_BYTES, lambda path, data: read_key_file(path, data, environment)))
    for upstream in config.upstreams.values():
        readers += [
            (endpoint.file, MAX_FILE_BYTES, read_endpoints)
            for endpoint in upstream.endpoints
            if endpoint.file is not None
        ]
    for path, max_bytes, read in readers:
        if trouble_with(path):
            continue  # check_files points at the key that names it
        try:
            read(path, content_of(path, max_bytes))
        except ConfigError as exc:
            yield from exc.problems


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
