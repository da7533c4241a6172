"""Clears away what the node of a local cluster left on this machine: containers, links, rules, routes, mounts.

The agent's own names (bridge `shoal<digest>`, nftables table `shoal_<digest>`, chain `SHOAL-<digest>`) are taken for ours
only with a proof: the bridge has an address of our cluster's range, the table speaks of that range, the jump to the
chain carries our node's name. `up` picked a range that nothing else on this machine uses. Blocking; what is not there
is no error.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from shoal import names
from shoal.errors import Unavailable
from shoal.local.engine import path_env
from shoal.local.engine_client import EngineClient
from shoal.net.links import delete_link
from shoal.net.netlink import Netlink

BRIDGE = re.compile(r"shoal[0-9a-f]{8}")
TABLE = re.compile(r"shoal_[0-9a-f]{8}")
AT_ONCE = 8
HOOKS = ("DOCKER-USER", "FORWARD")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def containers(engine: EngineClient, node: str, cluster_uid: str) -> int:
    """Remove every container of that node of that cluster; how many there were."""
    found = engine.containers(**{names.CONTAINER_NODE: node, names.CONTAINER_CLUSTER: cluster_uid})
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(engine.remove_container, found))
    return len(found)


def engine_networks(engine: EngineClient, cluster_cidr: str) -> None:
    """What the agent made where it could not plumb pods itself."""
    for name, subnets in engine.networks().items():
        if BRIDGE.fullmatch(name) and any(_within(subnet, cluster_cidr) for subnet in subnets):
            engine.remove_network(name)


def _within(subnet: str, cidr: str) -> bool:
    try:
        return IPv4Network(subnet).subnet_of(IPv4Network(cidr))
    except ValueError:  # IPv6, or none
        return False


def network(cluster_cidr: str, node: str) -> None:
    cidr = IPv4Network(cluster_cidr)
    for bridge in own_bridges(cluster_cidr):
        remove_bridge(bridge)
    for table in TABLE.findall(_run("nft", "list", "tables", "ip")):
        if str(cidr) in _run("nft", "list", "table", "ip", table):
            remove_table(table)
    _run("ip", "route", "flush", "root", str(cidr))
    remove_jumps(node)


def remove_bridge(name: str) -> None:
    """With the links on it."""
    with Netlink() as host:
        bridge = host.link(name)
        if bridge is None:
            return
        for link in host.links():
            if link.master == bridge.index:
                host.send(delete_link(index=link.index))
        host.send(delete_link(name=name))


def remove_table(name: str) -> None:
    _run("nft", "delete", "table", "ip", name)


def remove_jumps(node: str, *, only: str = "") -> None:
    """The rules with that node's mark, and the chains that they lead to. `only`: this chain alone."""
    for rule, chain in jumps(_run("iptables", "-w", "5", "-S"), node):
        if only in ("", chain):
            _run("iptables", "-w", "5", *rule)
            _run("iptables", "-w", "5", "-F", chain)
            _run("iptables", "-w", "5", "-X", chain)


def bridges(addresses: Iterable[dict[str, Any]], cidr: IPv4Network) -> list[str]:
    """Links named like a bridge of ours that have an address in our range."""
    return [
        link["ifname"]
        for link in addresses
        if BRIDGE.fullmatch(link.get("ifname", ""))
        and any(IPv4Address(a["local"]) in cidr for a in link.get("addr_info", ()))
    ]


def own_bridges(cluster_cidr: str) -> list[str]:
    """Bridges of ours that are there now: a cluster that was not taken down left them."""
    return bridges(_json("ip", "-4", "-json", "address"), IPv4Network(cluster_cidr))


def jumps(listing: str, node: str) -> list[tuple[list[str], str]]:
    """From `iptables -S`: how to delete each rule that carries our mark, and the chain that it leads to."""
    found = []
    for line in listing.splitlines():
        words = shlex.split(line)
        if words[:1] == ["-A"] and words[1] in HOOKS and f"shoal node {node}" in words and "-j" in words:
            found.append((["-D", *words[1:]], words[words.index("-j") + 1]))
    return found


def forwarding() -> bool:
    """Whether this network forwards packets; the agent turns it on for its pods."""
    try:
        return FORWARDING.read_text().strip() != "0"
    except OSError:
        return True


def forward(*, on: bool) -> None:
    with suppress(OSError):
        FORWARDING.write_text(f"{int(on)}\n")


def _json(*command: str) -> list[dict[str, Any]]:
    text = _run(*command)
    found: list[dict[str, Any]] = json.loads(text) if text.startswith("[") else []
    return [entry for entry in found if entry]


def _run(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={"PATH": path_env(), "LC_ALL": "C"}
        )
    except OSError as error:
        if isinstance(error, FileNotFoundError):  # then there is nothing of its kind either
            return ""
        raise Unavailable(f"{command[0]} cannot be run: {error}") from error
    return done.stdout
