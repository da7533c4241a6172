"""The node's pod network: its bridge, the pods' links, NAT, and the host's firewall where it drops what it forwards.

This is the fast way (FACTS.md): the agent plumbs each sandbox itself. All names follow from cluster and node, so that
two clusters on one host do not meet, and whoever cleans up finds everything.
"""

import asyncio
import hashlib
import os
import socket
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import msgspec

from shoal.errors import ShoalError, Unavailable
from shoal.local import sweep
from shoal.net import namespace, nft
from shoal.net.flows import NETLINK_NETFILTER, delete_flow
from shoal.net.links import delete_link
from shoal.net.netlink import Netlink
from shoal.net.plumbing import Plumbing, ensure_bridge, plumb
from shoal.node_agent.hostports import HostPort, Nat, ruleset, stale
from shoal.telemetry.logs import log

LEFT_TRIES = 200
LEFT_PAUSE_S = 0.005
MTU = 1500


class Marks(msgspec.Struct, frozen=True):
    """The names of everything that a node puts into its host's network."""

    bridge: str
    table: str
    chain: str
    node: str

    @property
    def comment(self) -> str:
        return f"shoal node {self.node}"


def marks(cluster_uid: str, node: str) -> Marks:
    digest = hashlib.blake2b(f"{cluster_uid}/{node}".encode(), digest_size=4).hexdigest()
    return Marks(f"shoal{digest[:8]}", f"shoal_{digest}", f"SHOAL-{digest}", node)


def link_name(uid: str) -> str:
    """At most 15 characters, by the pod's uid."""
    return "sv" + hashlib.blake2b(uid.encode(), digest_size=6).hexdigest()


class PodNetwork:
    """Made by `open_network`. Connecting pods is done in threads of its own: the kernel's lock may be taken by others."""

    def __init__(self, host: Netlink, bridge: int, gateway: IPv4Interface, nat: Nat, mtu: int) -> None:
        self._host = host
        self._bridge = bridge
        self._gateway = gateway
        self._nat = nat
        self._mtu = mtu
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="plumb")
        self._own = namespace.own()
        self._ports: dict[str, tuple[HostPort, ...]] = {}
        self._programmed: str | None = None
        self._flowing: set[HostPort] | None = None  # the ports of UDP when flows were looked through last
        self._held = False
        self._nat_lock = asyncio.Lock()

    async def connect(self, uid: str, pid: int, address: IPv4Interface, sysctls: Mapping[str, str]) -> None:
        """Give the sandbox's process its link. Doing it again is harmless.

        Raises: ShoalError if the sandbox did not leave the host's network, or ended; NetlinkError.
        """
        descriptor = await self._left(pid)
        try:
            wanted = Plumbing(
                link=link_name(uid), bridge=self._bridge, mtu=self._mtu, address=address, gateway=self._gateway.ip
            )
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, _connect, self._host, descriptor, wanted, dict(sysctls))
        finally:
            os.close(descriptor)

    async def _left(self, pid: int) -> int:
        """Its own namespace, once it has made it: a container that joined before would be in the host's network."""
        for _ in range(LEFT_TRIES):
            try:
                descriptor = namespace.open_of(pid)
            except OSError as error:
                raise ShoalError(f"the sandbox ended at once: {error}") from error
            if namespace.inode(descriptor) != self._own:
                return descriptor
            os.close(descriptor)
            await asyncio.sleep(LEFT_PAUSE_S)
        raise ShoalError("the sandbox did not leave the host's network")

    async def disconnect(self, uid: str) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._host.send, delete_link(name=link_name(uid)))

    def links(self) -> set[str]:
        return {link.name for link in self._host.links() if link.master == self._bridge}

    async def remove_links(self, names: set[str]) -> None:
        loop = asyncio.get_running_loop()
        for name in sorted(names):
            await loop.run_in_executor(self._threads, self._host.send, delete_link(name=name))

    async def set_ports(self, uid: str, ports: tuple[HostPort, ...]) -> None:
        """Program the pod's host ports; () takes them away. What is refused is not kept, else it would be in every
        later ruleset. Raises: NftError, Unavailable.
        """
        if not ports and uid not in self._ports:
            return
        async with self._nat_lock:
            before = self._ports.get(uid, ())
            self.remember_ports(uid, ports)
            try:
                if not self._held:
                    await self._apply()
            except BaseException:
                self.remember_ports(uid, before)
                raise

    def remember_ports(self, uid: str, ports: tuple[HostPort, ...]) -> None:
        """They go in with whatever is programmed next."""
        if ports:
            self._ports[uid] = ports
        else:
            self._ports.pop(uid, None)

    async def hold(self) -> None:
        """A table from before this agent's start stays as it is until `program`: what runs keeps its ports while the
        agent learns of it. Without one, an empty one is made.
        """
        self._held = await nft.has_table("ip", self._nat.table)
        if not self._held:
            await self.program()

    async def program(self) -> None:
        """All that was remembered. If that is refused, pod by pod: one must not cost the others their ports."""
        async with self._nat_lock:
            self._held = False
            try:
                await self._apply()
                return
            except nft.NftError as error:
                if not self._ports:
                    raise
                log.warning("network.ports", error=str(error))
                remembered, self._ports = self._ports, {}
        for uid, ports in remembered.items():
            try:
                await self.set_ports(uid, ports)
            except nft.NftError as error:
                log.warning("network.ports", uid=uid, error=str(error))

    async def _apply(self) -> None:
        text = ruleset(self._nat, (p for ports in self._ports.values() for p in ports))
        if text != self._programmed:
            await nft.apply(text)
            self._programmed = text
        flowing = {p for ports in self._ports.values() for p in ports if p.protocol == "udp"}
        if flowing != self._flowing:
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(self._threads, forget_flows, self._host, flowing, self._gateway.network)
                self._flowing = flowing
            except OSError as error:
                log.warning("network.flows", error=str(error))

    def close(self) -> None:
        self._threads.shutdown(wait=False)
        self._host.close()


def forget_flows(host: Netlink, ports: Collection[HostPort], pods: IPv4Network) -> None:
    """Those of UDP that go astray. Raises: OSError where the kernel tells nothing of flows."""
    own = {address.ip for _, address in host.addresses()}
    with Netlink(family=NETLINK_NETFILTER) as kernel:
        kernel.send(*map(delete_flow, stale(kernel.flows(socket.IPPROTO_UDP), ports, own, pods)))


def _connect(host: Netlink, descriptor: int, wanted: Plumbing, sysctls: Mapping[str, str]) -> None:
    plumb(host, descriptor, wanted)
    if sysctls:
        namespace.call_in(descriptor, lambda: _write_sysctls(sysctls))


def _write_sysctls(values: Mapping[str, str]) -> None:
    """Below /proc/sys/net one sees the namespace of the thread that looks."""
    for name, value in values.items():
        try:
            (Path("/proc/sys") / name.replace(".", "/")).write_text(value)
        except OSError as error:
            raise ShoalError(f"sysctl {name}: {error.strerror}") from error


async def open_network(node_marks: Marks, gateway: IPv4Interface, cluster_cidr: str) -> PodNetwork:
    """The bridge with its address, NAT, forwarding. Raises: ShoalError, NetlinkError, NftError."""
    host = Netlink()
    try:
        mtu = _mtu(host)
        bridge = ensure_bridge(host, node_marks.bridge, gateway, mtu=mtu)
        nat = Nat(
            table=node_marks.table,
            bridge=node_marks.bridge,
            pod_cidr=str(gateway.network),
            cluster_cidr=cluster_cidr,
        )
        network = PodNetwork(host, bridge, gateway, nat, mtu)
        _set("net/ipv4/ip_forward", "1")
        _set(f"net/ipv4/conf/{node_marks.bridge}/route_localnet", "1")
        await network.hold()
        await allow_forwarding(node_marks)
    except BaseException:
        host.close()
        raise
    return network


def _mtu(host: Netlink) -> int:
    """That of the link to the outside, so that what pods send fits it."""
    default = next((r.link for r in host.routes() if r.destination == "0.0.0.0/0"), 0)
    return next((link.mtu for link in host.links() if link.index == default), MTU)


def _set(path: str, value: str) -> None:
    file = Path("/proc/sys") / path
    try:
        if file.read_text().strip() != value:
            file.write_text(value)
    except OSError as error:
        raise ShoalError(f"cannot set {path}: {error.strerror}") from error


# --- the host's own firewall ---------------------------------------------------------------------------------------------


async def allow_forwarding(node_marks: Marks) -> None:
    """Docker sets the policy of FORWARD to DROP. What its own hook for others offers (DOCKER-USER) gets one marked rule,
    which leads to a chain of ours; without that chain, and with such a policy, FORWARD itself gets it.
    """
    try:
        code, listed = await _iptables("-S")
    except Unavailable:
        return
    if code:
        return
    home = "DOCKER-USER" if "-N DOCKER-USER" in listed else "FORWARD" if "-P FORWARD DROP" in listed else ""
    if not home:
        return
    chain = node_marks.chain
    if f"-N {chain}" not in listed:
        await _iptables("-N", chain)
    for direction in ("-i", "-o"):
        rule = (chain, direction, node_marks.bridge, "-j", "ACCEPT")
        if (await _iptables("-C", *rule))[0]:
            await _iptables("-A", *rule)
    jump = (home, "-m", "comment", "--comment", node_marks.comment, "-j", chain)
    if (await _iptables("-C", *jump))[0]:
        code, said = await _iptables("-I", *jump)
        if code:
            log.warning("network.forwarding", why=said.strip())


async def _iptables(*arguments: str) -> tuple[int, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            "iptables", "-w", "5", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
    except OSError as error:
        raise Unavailable("iptables is not installed") from error
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode(errors="replace")


async def remove_all(node_marks: Marks) -> None:
    """Everything that `open_network` made, for a node that is taken away. What is not there is no error.

    Raises: NetlinkError, OSError.
    """

    def remove() -> None:
        sweep.remove_table(node_marks.table)
        sweep.remove_jumps(node_marks.node, only=node_marks.chain)
        sweep.remove_bridge(node_marks.bridge)

    await asyncio.get_running_loop().run_in_executor(None, remove)
