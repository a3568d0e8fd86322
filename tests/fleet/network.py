"""Hosts as network namespaces: one bridge, a veth pair for each host, links that can be cut by direction.

    unshare -n ── 10.77.0.1, bridge ──┬── veth ── namespace "east"    10.77.0.11
       broker, store, cameras         ├── veth ── namespace "n1"      10.77.0.21
       on 127.0.0.1                   └── …

The process itself runs in a namespace of its own (`isolated`), so that addresses and rules never meet those
of the machine. The hosts reach its servers on 127.0.0.1 as 10.77.0.1 (`route_localnet` and DNAT). Needs root,
iproute2 and nftables.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

HUB = "10.77.0.1"
BRIDGE = "hub0"

Direction = Literal["in", "out", "both"]


def missing() -> str | None:
    """Return why namespaces cannot be used here; None if they can."""
    for program in ("ip", "nft", "unshare"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            return f"{program} is not installed"
    script = "ip link add probe0 type bridge && nft add table inet probe"
    done = subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no network namespaces: {done.stderr.strip()[:200]}"


def isolated(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs `python -m tests.fleet` with these arguments in a namespace of its own."""
    return ["unshare", "-n", sys.executable, "-m", "tests.fleet", "--isolated", *arguments]


def run(*command: str, stdin: str | None = None) -> None:
    """Run a command of the system. Raises AssertionError with what it printed."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


class Host:
    """One namespace with its address. `prefix` is the command that runs a program in it."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.namespace = f"am{os.getpid()}-{name}"
        self.prefix = ["ip", "netns", "exec", self.namespace]
        self.is_cut = False

    def cut(self, direction: Direction, peers: Sequence[str]) -> None:
        """Drop the packets from (`in`), to (`out`) or of both directions with these addresses."""
        rules = ["table inet cut {", " chain i { type filter hook input priority 0;"]
        if direction in ("in", "both"):
            rules += [f"  ip saddr {peer} drop" for peer in peers]
        rules += [" }", " chain o { type filter hook output priority 0;"]
        if direction in ("out", "both"):
            rules += [f"  ip daddr {peer} drop" for peer in peers]
        run(*self.prefix, "nft", "-f", "-", stdin="\n".join([*rules, " }", "}", ""]))
        self.is_cut = True

    def heal(self) -> None:
        """Let all packets pass."""
        if self.is_cut:
            run(*self.prefix, "nft", "delete", "table", "inet", "cut")
            self.is_cut = False


class Network:
    """The hosts. As a context manager; call it inside of a namespace of one's own only."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{HUB}/16", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        for name in ("all", BRIDGE):
            Path(f"/proc/sys/net/ipv4/conf/{name}/route_localnet").write_text("1")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts.values():
            subprocess.run(["ip", "netns", "delete", host.namespace], capture_output=True, check=False)

    def expose(self, ports: Sequence[int], cameras: range, camera_port: int) -> None:
        """Let the hosts reach our `ports` at the hub, and `camera_port` as each of `cameras`."""
        listed = ", ".join(map(str, ports))
        rules = f"""
        table ip hub {{
          chain pre {{ type nat hook prerouting priority -100;
            ip daddr {HUB} tcp dport {{ {listed} }} dnat to 127.0.0.1
            ip daddr {HUB} tcp dport {cameras.start}-{cameras.stop - 1} dnat to 127.0.0.1:{camera_port}
          }}
        }}
        """
        run("nft", "-f", "-", stdin=rules)

    def host(self, name: str) -> Host:
        """Add a host."""
        number = 11 + len(self.hosts)
        host = self.hosts[name] = Host(name, f"10.77.0.{number}")
        link = f"ve{number}"
        run("ip", "netns", "add", host.namespace)
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        run("ip", "link", "set", link, "master", BRIDGE, "up")
        run(*host.prefix, "ip", "link", "set", "lo", "up")
        run(*host.prefix, "ip", "address", "add", f"{host.address}/16", "dev", "eth0")
        run(*host.prefix, "ip", "link", "set", "eth0", "up")
        return host
