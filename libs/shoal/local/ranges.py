"""Picks address ranges that nothing on this machine uses. `pick` is pure; `taken` asks the kernel."""

import ipaddress
import json
import re
import socket
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from shoal.errors import Unavailable

CLUSTER = "10.208.0.0/12"
CLUSTER_CANDIDATES = (
    CLUSTER,
    "10.224.0.0/12",
    "10.192.0.0/12",
    "10.176.0.0/12",
    "10.64.0.0/12",
    "172.16.0.0/12",
    "100.64.0.0/10",
)
LAB_SPACE = ("198.18.0.0/15", "100.126.0.0/15")  # for benchmarks of networks (RFC 2544); else the end of 100.64/10
LAB_PREFIX = 22


def pick(candidates: Iterable[str], taken: Iterable[IPv4Network]) -> tuple[IPv4Network, list[str]]:
    """The first candidate that overlaps nothing, and why each one before it was passed over.

    Raises: Unavailable if all overlap.
    """
    used: list[IPv4Network] = list(taken)
    reasons: list[str] = []
    for text in candidates:
        network = IPv4Network(text)
        clash = next((t for t in used if t.overlaps(network)), None)
        if clash is None:
            return network, reasons
        reasons.append(f"{network} overlaps {clash}, which this machine uses")
    raise Unavailable(f"no free address range is left: {'; '.join(reasons)}")


def lab_candidates() -> list[str]:
    return [str(n) for space in LAB_SPACE for n in IPv4Network(space).subnets(new_prefix=LAB_PREFIX)]


def taken(skip_devices: Iterable[str] = ()) -> list[IPv4Network]:
    """What routes, addresses and resolvers of this network namespace cover (the default route covers nothing)."""
    skip = set(skip_devices)
    found: list[IPv4Network] = []
    for route in _ip("route", "show", "table", "all"):
        if route.get("dst", "default") != "default" and route.get("dev") not in skip:
            found += _network(route["dst"])
    for link in _ip("address"):
        if link.get("ifname") not in skip:
            found += [n for a in link.get("addr_info", []) for n in _network(f"{a['local']}/{a['prefixlen']}")]
    found += [n for address in resolvers() for n in _network(address)]
    return [n for n in found if not (n.is_loopback or n.is_multicast or n.is_link_local or n.prefixlen == 0)]


def resolvers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    with suppress(OSError):
        return re.findall(r"^\s*nameserver\s+(\S+)", path.read_text(), re.MULTILINE)
    return []


def _ip(*arguments: str) -> list[dict[str, Any]]:
    try:
        done = subprocess.run(["ip", "-4", "-json", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


def _network(text: str) -> list[IPv4Network]:
    with suppress(ValueError):
        return [ipaddress.IPv4Network(text, strict=False)]
    return []


def free_port(preferred: int = 0, host: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """`preferred` if nothing listens there, else any free one. `kind`: of TCP, or of UDP (SOCK_DGRAM)."""
    for port in (preferred, 0):
        with suppress(OSError), socket.socket(type=kind) as probe:
            if kind == socket.SOCK_STREAM:  # of UDP it would let two listen on one port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    raise Unavailable(f"no port is free on {host}")
