"""A pod's own /etc/hosts, /etc/resolv.conf and /etc/hostname, as text. Pure."""

from collections.abc import Iterable
from ipaddress import ip_address

import msgspec

from shoal.model.pod import Pod, PodDNSConfig

NAMESERVERS_MAX = 3  # the resolver reads no more
SEARCHES_MAX = 32

_LOCAL = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


class Resolver(msgspec.Struct, frozen=True):
    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def hosts(pod: Pod, *, hostname: str, pod_ip: str, host_file: str) -> str:
    """`host_file`: the host's own, which a pod in the host's network keeps."""
    if pod.spec.host_network:
        text = "# The host's own file, as it was when the pod began.\n" + host_file.rstrip("\n") + "\n"
    else:
        text = f"# Made by Shoal for this pod.\n{_LOCAL}{pod_ip}\t{hostname}\n"
    if pod.spec.host_aliases:
        text += "\n# hostAliases of the manifest\n"
        text += "".join(f"{alias.ip}\t{' '.join(alias.hostnames)}\n" for alias in pod.spec.host_aliases)
    return text


def read_resolv_conf(text: str) -> Resolver:
    """Of the host. A nameserver on its loopback is left out: no pod reaches it there."""
    nameservers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        match line.split():
            case ["nameserver", address, *_] if not _loopback(address):
                nameservers.append(address)
            case ["search" | "domain", *names] if names:
                searches = names
            case ["options", *named]:
                options += named
            case _:
                pass
    return Resolver(tuple(nameservers), tuple(searches), tuple(options))


def _loopback(address: str) -> bool:
    try:
        return ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return True


def resolver(pod: Pod, host: Resolver) -> Resolver:
    """What the pod asks: the host's resolver (no service has a name yet) unless it wants none, and what it adds."""
    base = Resolver() if pod.spec.dns_policy == "None" else host
    config = pod.spec.dns_config or PodDNSConfig()
    added = [o.name if o.value is None else f"{o.name}:{o.value}" for o in config.options]
    replaced = {option.partition(":")[0] for option in added}
    kept = [o for o in base.options if o.partition(":")[0] not in replaced]
    return Resolver(
        tuple(_unique((*base.nameservers, *config.nameservers)))[:NAMESERVERS_MAX],
        tuple(_unique((*base.searches, *config.searches)))[:SEARCHES_MAX],
        (*kept, *added),
    )


def resolv_conf(found: Resolver) -> str:
    lines = [f"nameserver {address}" for address in found.nameservers]
    if found.searches:
        lines.append("search " + " ".join(found.searches))
    if found.options:
        lines.append("options " + " ".join(found.options))
    return "\n".join(lines) + "\n"


def _unique(values: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(values)
