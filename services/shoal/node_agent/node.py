"""What the workers of all pods of a node share: the engine, the network, addresses, files, and whom to tell."""

import asyncio
from collections.abc import Callable, Mapping
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Protocol

import msgspec

from shoal import clock
from shoal.model.pod import Pod
from shoal.names import ObjectKey
from shoal.node_agent.containers import Ground, hostname
from shoal.node_agent.environment import Place
from shoal.node_agent.etc_files import Resolver, hosts, read_resolv_conf, resolv_conf, resolver
from shoal.node_agent.hostports import HostPort
from shoal.node_agent.images import Images
from shoal.node_agent.kept import Kept
from shoal.node_agent.kept_addresses import KeptAddresses
from shoal.node_agent.runtime.ownership import Owner, labels_of
from shoal.node_agent.runtime.port import EngineInfo, Labels, Runtime
from shoal.node_agent.turns import Turns
from shoal.node_agent.volumes import Volumes

AT_ONCE_MIN, AT_ONCE_MAX = 4, 16


def at_once(cpus: int) -> int:
    """How many calls at the engine at a time. Measured on two cores: 3 or 4 start the most, more only take longer."""
    return max(AT_ONCE_MIN, min(AT_ONCE_MAX, 2 * cpus))


class Network(Protocol):
    """How sandboxes get their network. `connect` is idempotent; `fast` False: the engine has done it already."""

    async def connect(self, uid: str, pid: int, address: IPv4Interface, sysctls: Mapping[str, str]) -> None: ...

    async def disconnect(self, uid: str) -> None: ...

    async def set_ports(self, uid: str, ports: tuple[HostPort, ...]) -> None: ...


class Reporter(Protocol):
    def pod(self, key: ObjectKey, uid: str, status: msgspec.Struct, *, gone: bool, traceparent: str) -> None: ...

    def event(self, key: ObjectKey, uid: str, type_: str, reason: str, message: str, *, field_path: str) -> None: ...


class Node(msgspec.Struct, kw_only=True):
    """`network` None: the engine's own network, named `engine_network`."""

    name: str
    address: str
    owner: Owner
    runtime: Runtime
    images: Images
    addresses: KeptAddresses
    volumes: Volumes
    network: Network | None
    engine_network: str
    sandbox_image: str
    engine: EngineInfo
    reporter: Reporter
    kept: Kept
    turns: Turns
    oom_floor: int = 0
    now: Callable[[], float] = clock.now  # for what is shown only: it may jump
    monotonic: Callable[[], float] = clock.monotonic  # for all that waits
    engine_up: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    def place(self, pod_ip: str) -> Place:
        return Place(node=self.name, host_ip=self.address, pod_ip=pod_ip)

    def labels(self, labels: Labels) -> dict[str, str]:
        return labels_of(labels, self.owner)

    def ground(self, pod_ip: str, pod: Pod) -> Ground:
        found = resolver(pod, Resolver())  # the engine knows its own host's resolver
        dns = {"Dns": list(found.nameservers), "DnsSearch": list(found.searches), "DnsOptions": list(found.options)}
        return Ground(
            labels={},
            sandbox_image=self.sandbox_image,
            place=self.place(pod_ip),
            network=self.engine_network,
            selinux=self.engine.selinux,
            node_memory_bytes=self.engine.memory_bytes,
            oom_floor=self.oom_floor,
            dns={k: v for k, v in dns.items() if v} if self.engine_network else {},
        )

    def etc(self, pod: Pod, pod_ip: str) -> dict[str, str]:
        name = hostname(pod) if not pod.spec.host_network else _read("/proc/sys/kernel/hostname").strip()
        return {
            "hosts": hosts(pod, hostname=name, pod_ip=pod_ip, host_file=_read("/etc/hosts")),
            "resolv.conf": resolv_conf(resolver(pod, host_resolver())),
            "hostname": name + "\n",
        }


def host_resolver() -> Resolver:
    """The host's; where that is systemd's stub on its loopback, the servers behind the stub."""
    found = read_resolv_conf(_read("/etc/resolv.conf"))
    if not found.nameservers and (behind := read_resolv_conf(_read("/run/systemd/resolve/resolv.conf"))).nameservers:
        return behind
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
