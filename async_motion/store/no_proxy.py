"""`NO_PROXY` as curl and Go read it: names, addresses, networks, each with an optional port."""

from __future__ import annotations

from ipaddress import ip_address, ip_network


def is_excluded(host: str, port: int | None, no_proxy: str) -> bool:
    """Return whether `no_proxy` excludes a host from the proxy.

    It is a list with commas or spaces: `*`; `lan`, `.lan` or `*.lan` for a name and all names below it; an
    address or a network, such as `192.168.0.0/16`, for hosts given by address. `:port` limits an entry to it.
    """
    return any(
        _matches(host.strip("[]").lower(), port, entry) for entry in no_proxy.replace(",", " ").split()
    )


def _matches(host: str, port: int | None, entry: str) -> bool:
    name, limit = _split(entry.lower())
    if limit and limit != str(port):
        return False
    if name == "*":
        return True
    try:
        network = ip_network(name, strict=False)
    except ValueError:
        name = name.removeprefix("*").removeprefix(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
    try:
        return ip_address(host) in network
    except ValueError:
        return False


def _split(entry: str) -> tuple[str, str]:
    """Return an entry without its port, and the port, or "". An IPv6 address needs brackets to have one."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    if entry.count(":") == 1:
        name, _, limit = entry.partition(":")
        return name, limit
    return entry, ""
