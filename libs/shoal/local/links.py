"""The network of a lab: bridges in the lab's own namespace, a veth to each host, one more to the root namespace.

    root ns          lab ns                          host ns
    shoal-labN ────  uplink     link1 ── h1 ───────  eth0   (h1)
     .1                .2       (bridge)  h2 ──────  eth0   (h2)
                                 .1       ...

Block N of the lab space is a /22: the first /24 holds the uplink (a /30), each following one a link. Nothing here
needs undoing: the namespaces take their links with them, and the root end of a veth goes with the other end.
"""

import subprocess
from ipaddress import IPv4Address, IPv4Network

import msgspec

from shoal.errors import Unavailable

LINKS_MAX = 3  # /24s that are left in a block
HOSTS_MAX = 200  # on one link
FIRST_HOST = 11


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`block`: the lab's /22. `number`: which block, it names the root end of the uplink."""

    block: str
    number: int
    links: int
    hosts: list[str]

    @property
    def uplink(self) -> str:
        return f"shoal-lab{self.number}"

    @property
    def root_address(self) -> IPv4Address:
        return IPv4Network(self.block)[1]

    @property
    def lab_address(self) -> IPv4Address:
        return IPv4Network(self.block)[2]

    def link_of(self, host: str) -> int:
        """Hosts are dealt to the links in turn, so that with two links neighbours share none."""
        return self.hosts.index(host) % self.links

    def gateway(self, link: int) -> IPv4Address:
        """The lab's own address on a link."""
        return IPv4Network(self.block)[256 * (link + 1) + 1]

    def address(self, host: str) -> IPv4Address:
        place = self.hosts.index(host) // self.links
        return IPv4Network(self.block)[256 * (self.link_of(host) + 1) + FIRST_HOST + place]

    @property
    def nats_address(self) -> IPv4Address:
        return self.gateway(0)


def bridge(link: int) -> str:
    return f"link{link + 1}"


def build(plan: Plan, lab_pid: int) -> None:
    """Uplink and bridges. `lab_pid`: the process that holds the lab's namespace."""
    _ip(
        f"link add {plan.uplink} type veth peer name uplink netns {lab_pid}",
        f"address add {plan.root_address}/30 dev {plan.uplink}",
        f"link set {plan.uplink} up",
        f"route add {plan.block} via {plan.lab_address} dev {plan.uplink}",
    )
    # No default route: the root namespace may forward, and labs would meet there.
    lines = [f"address add {plan.lab_address}/30 dev uplink", "link set uplink up"]
    for link in range(plan.links):
        lines += [
            f"link add {bridge(link)} type bridge forward_delay 0",
            f"address add {plan.gateway(link)}/24 dev {bridge(link)}",
            f"link set {bridge(link)} up",
        ]
    _ip(*lines, inside=lab_pid)
    _sysctl(lab_pid, "net/ipv4/ip_forward", "1")
    _sysctl(lab_pid, "net/bridge/bridge-nf-call-iptables", "0")


def attach(plan: Plan, host: str, lab_pid: int, host_pid: int) -> None:
    """The host's cable: `eth0` inside, a port of its link's bridge in the lab's namespace, named like the host."""
    link = plan.link_of(host)
    _ip(
        f"link add {host} type veth peer name eth0 netns {host_pid}",
        f"link set {host} master {bridge(link)} up",
        inside=lab_pid,
    )
    _ip(
        f"address add {plan.address(host)}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {plan.gateway(link)}",
        inside=host_pid,
    )


def detach(host: str, lab_pid: int) -> None:
    """Remove what is left of a host's cable: a dead namespace takes its end away, but not at once."""
    subprocess.run(
        ["nsenter", "-t", str(lab_pid), "-n", "ip", "link", "del", host], stderr=subprocess.DEVNULL, check=False
    )


def cable(host: str, lab_pid: int, *, plugged: bool) -> None:
    _ip(f"link set {host} {'up' if plugged else 'down'}", inside=lab_pid)


def is_unplugged(host: str, lab_pid: int) -> bool:
    """A host that is off has no cable at all: then False."""
    done = subprocess.run(
        ["nsenter", "-t", str(lab_pid), "-n", "ip", "-o", "link", "show", host],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0 and "UP" not in done.stdout.partition("<")[2].partition(">")[0].split(",")


def _ip(*lines: str, inside: int = 0) -> None:
    """One `ip -batch`. Raises: Unavailable with what ip said."""
    enter = ["nsenter", "-t", str(inside), "-n"] if inside else []
    done = subprocess.run(
        [*enter, "ip", "-batch", "-"], input="\n".join(lines), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Unavailable(f"the lab's network could not be made: {done.stderr.strip() or done.stdout.strip()}")


def _sysctl(pid: int, name: str, value: str) -> None:
    subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "/bin/sh", "-c", f"echo {value} > /proc/sys/{name}"],
        stderr=subprocess.DEVNULL,
        check=False,  # not every kernel has each
    )
