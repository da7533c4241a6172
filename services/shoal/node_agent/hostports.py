"""The node's NAT, as nftables text: masquerade for what leaves the cluster, ports of the host for pods. Pure."""

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network

import msgspec

from shoal.model.pod import Pod
from shoal.net import nft_text
from shoal.net.records import Flow


class HostPort(msgspec.Struct, frozen=True, order=True):
    protocol: str  # tcp, udp
    host_ip: str  # "" = every address of the host
    host_port: int
    pod_ip: str
    pod_port: int


class Nat(msgspec.Struct, frozen=True, kw_only=True):
    table: str
    bridge: str
    pod_cidr: str
    cluster_cidr: str


def of_pod(pod: Pod, pod_ip: str) -> tuple[HostPort, ...]:
    """None for a pod in the host's network: it listens there itself."""
    if pod.spec.host_network or not pod_ip:
        return ()
    return tuple(
        HostPort(
            (port.protocol or "TCP").lower(),
            "" if port.host_ip in {"0.0.0.0", "::"} else port.host_ip,  # noqa: S104
            port.host_port,
            pod_ip,
            port.container_port,
        )
        for container in pod.spec.containers
        for port in container.ports
        if port.host_port
    )


def ruleset(nat: Nat, ports: Iterable[HostPort]) -> str:
    """The whole table, in one transaction."""
    rules = "\n".join(f"    {_dnat(p)}" for p in sorted(set(ports), key=lambda p: (not p.host_ip, p)))
    return nft_text.replace_table(
        "ip",
        nat.table,
        f"""  chain hostports {{
{rules}
  }}
  chain guard {{
    # The bridge may carry loopback addresses (below), but no pod reaches the host's loopback by it.
    type filter hook prerouting priority raw; policy accept;
    iifname "{nat.bridge}" ip daddr 127.0.0.0/8 drop
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump hostports
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump hostports
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {nat.pod_cidr} ip daddr != {nat.cluster_cidr} oifname != "{nat.bridge}" masquerade
    # A pod that reaches itself by a port of the host, and the host that reaches it by its loopback.
    oifname "{nat.bridge}" ip saddr {nat.pod_cidr} ct status dnat masquerade
    oifname "{nat.bridge}" ip saddr 127.0.0.0/8 masquerade
  }}""",
    )


def _dnat(port: HostPort) -> str:
    where = f"ip daddr {port.host_ip} " if port.host_ip else ""
    return f"{where}{port.protocol} dport {port.host_port} dnat to {port.pod_ip}:{port.pod_port}"


def stale(
    flows: Iterable[Flow], ports: Iterable[HostPort], own: Collection[IPv4Address], pods: IPv4Network
) -> list[Flow]:
    """Flows to this host (its addresses: `own`) that go where their port does not lead (any more): to a pod that is gone,
    or to nobody from before there was one. Rules are asked for a flow's first packet alone, and a flow of UDP has no end
    as long as its client sends.
    """
    leads = {(p.host_ip, p.host_port): (p.pod_ip, p.pod_port) for p in ports}

    def astray(flow: Flow) -> bool:
        if flow.target not in own and not flow.target.is_loopback:
            return False
        wanted = leads.get((str(flow.target), flow.target_port)) or leads.get(("", flow.target_port))
        if wanted is None:
            return flow.answers in pods and flow.answers != flow.target
        return (str(flow.answers), flow.answers_port) != wanted

    return [flow for flow in flows if astray(flow)]
