"""Addresses that we listen at, and who may reach the admin API."""

from __future__ import annotations

from collections.abc import Iterator

from silence_gateway.app.config.checks.finding import Context, Finding, Steps
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.quantities import Address, quoted

ANY_HOSTS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, never bound
MIN_TOKEN_CHARACTERS = 16


def check_listeners(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find addresses that collide, and an admin API that is open to the network."""
    # The rate limit service has doors of its own, and may be all that there is.
    if not config.listen and (config.rls is None or config.upstreams or config.realtime is not None):
        yield Finding(
            at=("listen",),
            says="the list is empty: write at least one address, such as 127.0.0.1:8080",
            about=(("listen",),),
        )
    taken: list[tuple[Address, str, Steps]] = []
    own = [(address, f"listen[{i}]", ("listen", i)) for i, address in enumerate(config.listen)]
    wanted: list[tuple[Address, str, Steps]] = [
        *own,
        (config.admin.listen, "admin.listen", ("admin", "listen")),
    ]
    if config.rls is not None:
        rls = {"listen": config.rls.listen, "json": config.rls.json_listen}
        wanted += [(one, f"rls.{key}", ("rls", key)) for key, one in rls.items() if one is not None]
    for address, name, steps in wanted:
        other = next(((n, s) for a, n, s in taken if collide(a, address)), None)
        if other is not None:
            yield Finding(
                at=steps,
                says=f"{name} and {other[0]} both want {quoted(str(address))}: use another port",
                about=(other[1],),
            )
        taken.append((address, name, steps))


def check_loops(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find endpoints that are this gateway itself."""
    own = [(address, f"listen[{i}]", ("listen", i)) for i, address in enumerate(config.listen)]
    doors: list[tuple[Address, str, Steps]] = [
        *own,
        (config.admin.listen, "admin.listen", ("admin", "listen")),
    ]
    for name, upstream in config.upstreams.items():
        for index, endpoint in enumerate(upstream.endpoints):
            there = endpoint.address
            met = next((door for door in doors if there is not None and leads_to(there, door[0])), None)
            if met is not None:
                yield Finding(
                    at=("upstreams", name, "endpoints", index, "address"),
                    says=f"{quoted(str(there))} is this gateway's own {met[1]}: name the port of the service",
                    about=(met[2],),
                )


def leads_to(there: Address, own: Address) -> bool:
    """Whether who connects to *there* from this machine meets who listens at *own*."""
    if there.unix_path or own.unix_path:
        return there.unix_path == own.unix_path
    if there.port != own.port:
        return False
    return there.host == own.host or (there.is_loopback and own.host in {*ANY_HOSTS, "localhost"})


def check_admin(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find an admin API that strangers can use."""
    admin = config.admin
    token = admin.token.get_secret_value() if admin.token is not None else ""
    if not token and not admin.listen.is_loopback:
        yield Finding(
            at=("admin", "listen"),
            says=(
                f"{quoted(str(admin.listen))} can be reached from other machines: "
                "set admin.token, or listen on 127.0.0.1"
            ),
            about=(("admin", "token"),),
        )
    if token and len(token) < MIN_TOKEN_CHARACTERS:
        yield Finding(
            at=("admin", "token"),
            says=f"the token is shorter than {MIN_TOKEN_CHARACTERS} characters and can be guessed",
            warning=True,
        )


def check_trust(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find lists of addresses that say more than was meant."""
    everyone = {
        "trusted_proxies": (
            config.trusted_proxies,
            "every client may claim any address: list your proxies only",
        ),
        "access.deny": (config.access.deny, "every client of that address family is refused"),
        "access.allow": (config.access.allow, "no limit applies to any client of that address family"),
    }
    for name, (networks, says) in everyone.items():
        for index, network in enumerate(networks):
            if network.prefixlen == 0:
                yield Finding(
                    at=(*name.split("."), index), says=f"{quoted(str(network))}: {says}", warning=True
                )
    both = set(config.access.allow) & set(config.access.deny)
    for index, network in enumerate(config.access.allow):
        if network in both:
            yield Finding(
                at=("access", "allow", index),
                says=f"{quoted(str(network))} is denied too, and deny wins: remove one of the two",
                about=(("access", "deny"),),
            )


def collide(one: Address, other: Address) -> bool:
    """Whether both cannot be listened at together."""
    if one.unix_path or other.unix_path:
        return one.unix_path == other.unix_path
    if one.port != other.port or one.port == 0:
        return False
    return one.host == other.host or bool({one.host, other.host} & ANY_HOSTS)
