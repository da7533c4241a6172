"""The host that this agent is on: who it is, what it has, what it uses; the status made of it is pure."""

import os
import uuid
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from shoal import names
from shoal.errors import ShoalError
from shoal.model import quantity
from shoal.model.meta import Condition
from shoal.model.node import NodeAddress, NodeStatus, NodeSystemInfo
from shoal.net.netlink import Netlink
from shoal.net.records import PROTOCOL_SHOAL
from shoal.node_agent.etc_files import read_resolv_conf
from shoal.node_agent.files import replace
from shoal.node_agent.runtime.port import EngineInfo
from shoal.node_agent.status import time_of

PODS_MAX = 250
RESERVED_MEMORY_BYTES = 100 << 20  # below so much free memory a host does badly (kubelet's eviction threshold)


_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class Host(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    address: str
    machine_id: str = ""
    system_uuid: str = ""
    boot_id: str = ""
    kernel: str = ""
    os_image: str = ""
    architecture: str = ""
    cpus: int = 1
    memory_bytes: int = 0
    disk_bytes: int = 0


def host_uid(state: Path) -> str:
    """Made once and kept. Not the machine's id: several engines of one machine may be hosts of their own."""
    file = state / "host-uid"
    try:
        if known := file.read_text().strip():
            return known
    except FileNotFoundError:
        pass
    made = str(uuid.uuid4())
    replace(file, f"{made}\n".encode())
    return made


def read_host(name: str, address: str, engine: EngineInfo, state: Path) -> Host:
    disk = os.statvfs(state)
    host = Host(
        name=name,
        address=address,
        machine_id=_read("/etc/machine-id"),
        system_uuid=_read("/sys/class/dmi/id/product_uuid"),
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
        disk_bytes=disk.f_blocks * disk.f_frsize,
    )
    return on_engine(host, engine)


def on_engine(host: Host, engine: EngineInfo) -> Host:
    """With what its engine says of it."""
    return msgspec.structs.replace(
        host,
        kernel=engine.kernel or os.uname().release,
        os_image=engine.os,
        architecture=_ARCHITECTURES.get(engine.architecture, engine.architecture),
        cpus=engine.cpus or os.cpu_count() or 1,
        memory_bytes=engine.memory_bytes,
    )


_CAP_SYS_RESOURCE = 24


def oom_floor() -> int:
    """0 where even root may not lower a process's OOM score (a container, some virtual machines), else -1000."""
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return -1000 if int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1 else 0
    return 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def shoal_version() -> str:
    try:
        return version("shoal")
    except PackageNotFoundError:
        return "0"


def node_labels(host: Host) -> dict[str, str]:
    """What manifests select by; the only labels that a node may set itself."""
    return {
        names.LABEL_HOSTNAME: host.name,
        names.LABEL_OS: "linux",
        names.LABEL_OS_BETA: "linux",
        names.LABEL_ARCH: host.architecture,
        names.LABEL_ARCH_BETA: host.architecture,
    }


def used_networks(own_bridge: str) -> list[str]:
    """What a pod range must not overlap: the host's routes, addresses and resolvers, but for what Shoal made itself."""
    with Netlink() as kernel:
        links = {link.index: link.name for link in kernel.links()}
        found = {str(address.network) for link, address in kernel.addresses() if links.get(link) != own_bridge}
        found |= {
            route.destination
            for route in kernel.routes()
            if route.protocol != PROTOCOL_SHOAL and links.get(route.link) != own_bridge
        }
    resolvers = read_resolv_conf(_read("/etc/resolv.conf")).nameservers
    found |= {f"{address}/32" for address in resolvers if ":" not in address}
    return sorted(found - {"0.0.0.0/0", "127.0.0.0/8"})


def own_address(servers: Iterable[str]) -> str:
    """The address by which this host reaches NATS; where that is its own loopback, that of its default route.

    Raises: ShoalError.
    """
    import socket

    for server in servers:
        host = server.rpartition("@")[2].rpartition("//")[2].partition("/")[0]
        name = host.rpartition(":")[0] if ":" in host else host
        try:
            target = socket.gethostbyname(name)
            with Netlink() as kernel:
                source, _ = kernel.route_to(target)
        except OSError:
            continue
        if source and not source.startswith("127."):
            return source
    try:
        with Netlink() as kernel:
            source, _ = kernel.route_to("192.0.2.1")  # an address of nobody's: the default route
    except OSError:
        source = ""
    if not source or source.startswith("127."):
        source = _any_address()
    if not source:
        raise ShoalError("this host has no address by which others could reach it: set SHOAL_ADDRESS")
    return source


def _any_address() -> str:
    with Netlink() as kernel:
        usable = [str(a.ip) for _, a in kernel.addresses() if not a.ip.is_loopback]
    return usable[0] if usable else ""


def node_status(
    host: Host,
    engine: EngineInfo,
    *,
    sandbox: str,
    pods: int,
    engine_error: str = "",
    last: Condition | None = None,
    now: float,
) -> NodeStatus:
    """`sandbox`: fast or engine. `engine_error` "": the engine answers. `last`: the Ready that was told before; it keeps
    its time as long as its status does.
    """
    capacity = {
        "cpu": str(host.cpus),
        "memory": quantity.format_bytes(host.memory_bytes),
        "ephemeral-storage": quantity.format_bytes(host.disk_bytes),
        "pods": str(min(pods, PODS_MAX)),
    }
    free = max(0, host.memory_bytes - RESERVED_MEMORY_BYTES)
    answers = "False" if engine_error else "True"
    ready = Condition(
        type="Ready",
        status=answers,
        reason="EngineNotReady" if engine_error else "AgentReady",
        message=f"the container engine does not answer: {engine_error}" if engine_error else "the agent is ready",
        last_transition_time=last.last_transition_time if last and last.status == answers else time_of(now),
    )
    return NodeStatus(
        capacity=capacity,
        allocatable={**capacity, "memory": quantity.format_bytes(free)},
        conditions=(ready,),
        addresses=(
            NodeAddress(type="InternalIP", address=host.address),
            NodeAddress(type="Hostname", address=host.name),
        ),
        node_info=NodeSystemInfo(
            machine_id=host.machine_id,
            system_uuid=host.system_uuid,
            boot_id=host.boot_id,
            kernel_version=host.kernel,
            os_image=host.os_image,
            container_runtime_version=f"docker://{engine.version}",
            kubelet_version=f"v{shoal_version()}",
            kube_proxy_version=f"v{shoal_version()}",
            operating_system="linux",
            architecture=host.architecture,
            sandbox=sandbox,
        ),
    )
