"""Rules of a pod as a whole: what its parts may not say beside each other."""

import re
from collections.abc import Iterator

from shoal.model import naming
from shoal.model.container import Container, ContainerPort
from shoal.model.defaults import PRIORITY_CLASSES
from shoal.model.nearest import did_you_mean
from shoal.model.pod import DEFAULT_SCHEDULER, HostAlias, PodDNSConfig, PodSpec, Toleration
from shoal.model.problem import Path, Problem, clipped
from shoal.model.rules import Found, duplicates, named, rule
from shoal.model.rules_meta import label_problems
from shoal.model.security import PodSecurityContext

USER_PRIORITY_MAX = 1_000_000_000
NAMESERVERS_MAX, SEARCHES_MAX, SEARCHES_TEXT_MAX = 3, 32, 2048

Placed = Iterator[tuple[Container, Path]]


def containers_of(spec: PodSpec, at: Path) -> Placed:
    for index, container in enumerate(spec.init_containers):
        yield container, at / "initContainers" / index
    for index, container in enumerate(spec.containers):
        yield container, at / "containers" / index


@rule(PodSpec)
def container_names_are_unique(spec: PodSpec, at: Path) -> Found:
    yield from duplicates(((c.name, where / "name") for c, where in containers_of(spec, at)), "container name")


@rule(PodSpec)
def volume_names(spec: PodSpec, at: Path) -> Found:
    volumes = [(volume.name, at / "volumes" / index / "name") for index, volume in enumerate(spec.volumes)]
    for name, where in volumes:
        yield from named(name, naming.dns_label(name) if name else "", where)
    yield from duplicates(volumes, "volume name")


@rule(PodSpec)
def mounts_name_volumes(spec: PodSpec, at: Path) -> Found:
    known = [volume.name for volume in spec.volumes]
    for container, where in containers_of(spec, at):
        for index, mount in enumerate(container.volume_mounts):
            if mount.name and mount.name not in known:
                hint = did_you_mean(mount.name, known) or (
                    f"its volumes are {', '.join(known)}" if known else "it has none"
                )
                message = f"the pod has no volume {clipped(mount.name)}"
                yield Problem(where / "volumeMounts" / index / "name", message, hint, beside=at / "volumes")


@rule(PodSpec)
def host_ports(spec: PodSpec, at: Path) -> Found:
    seen: list[tuple[ContainerPort, Path]] = []
    for container, where in containers_of(spec, at):
        for index, port in enumerate(container.ports):
            place = where / "ports" / index / "hostPort"
            if not port.host_port:
                continue
            if spec.host_network and port.host_port != port.container_port:
                yield Problem(
                    place, f"found {port.host_port}, expected containerPort ({port.container_port}) with hostNetwork"
                )
            clash = next((path for other, path in seen if _same_host_port(port, other)), None)
            if clash:
                yield Problem(place, f"duplicate host port {port.host_port}/{port.protocol}", f"first at {clash}")
            elif not place.startswith(f"{at}.initContainers"):  # those run before the others, and end
                seen.append((port, place))


def _same_host_port(a: ContainerPort, b: ContainerPort) -> bool:
    everywhere = ("", "0.0.0.0", "::")  # noqa: S104
    same_address = a.host_ip == b.host_ip or a.host_ip in everywhere or b.host_ip in everywhere
    return same_address and (a.host_port, a.protocol) == (b.host_port, b.protocol)


@rule(PodSpec)
def names_in_a_pod(spec: PodSpec, at: Path) -> Found:
    if spec.hostname:
        yield from named(spec.hostname, naming.dns_label(spec.hostname), at / "hostname")
    if spec.node_name:
        yield from named(spec.node_name, naming.dns_subdomain(spec.node_name), at / "nodeName")
    if spec.service_account_name:
        wrong = naming.dns_subdomain(spec.service_account_name)
        yield from named(spec.service_account_name, wrong, at / "serviceAccountName")
    yield from label_problems(spec.node_selector, at / "nodeSelector")


@rule(PodSpec)
def process_namespaces(spec: PodSpec, at: Path) -> Found:
    if spec.host_pid and spec.share_process_namespace:
        yield Problem(at / "shareProcessNamespace", "true beside hostPID: true, expected at most one of them")


@rule(PodSpec)
def dns(spec: PodSpec, at: Path) -> Found:
    if spec.dns_policy == "None" and not (spec.dns_config and spec.dns_config.nameservers):
        yield Problem(at / "dnsConfig" / "nameservers", "missing, expected at least one with dnsPolicy None")


@rule(PodDNSConfig)
def dns_config(config: PodDNSConfig, at: Path) -> Found:
    if len(config.nameservers) > NAMESERVERS_MAX:
        yield Problem(at / "nameservers", f"found {len(config.nameservers)}, expected at most {NAMESERVERS_MAX}")
    for index, server in enumerate(config.nameservers):
        yield from named(server, naming.ip_address(server), at / "nameservers" / index)
    if len(config.searches) > SEARCHES_MAX or len(" ".join(config.searches)) > SEARCHES_TEXT_MAX:
        yield Problem(at / "searches", f"too many, expected at most {SEARCHES_MAX} in {SEARCHES_TEXT_MAX} characters")
    for index, domain in enumerate(config.searches):
        wrong = naming.dns_subdomain(domain.removesuffix(".").replace("_", "x")) if domain != "." else ""
        yield from named(domain, wrong, at / "searches" / index)


@rule(HostAlias)
def host_alias(alias: HostAlias, at: Path) -> Found:
    if alias.ip:
        yield from named(alias.ip, naming.ip_address(alias.ip), at / "ip")
    for index, hostname in enumerate(alias.hostnames):
        yield from named(hostname, naming.dns_subdomain(hostname), at / "hostnames" / index)


@rule(PodSpec)
def scheduling(spec: PodSpec, at: Path) -> Found:
    if spec.scheduler_name not in ("", DEFAULT_SCHEDULER):
        message = f"there is no scheduler {clipped(spec.scheduler_name)}, expected {DEFAULT_SCHEDULER}"
        yield Problem(at / "schedulerName", message)
    gates = [(gate.name, at / "schedulingGates" / index / "name") for index, gate in enumerate(spec.scheduling_gates)]
    for name, where in gates:
        yield from named(name, naming.qualified_name(name) if name else "", where)
    yield from duplicates(gates, "scheduling gate")
    if spec.node_name and gates:
        yield Problem(at / "nodeName", "set beside schedulingGates, expected at most one of them")


@rule(PodSpec)
def priority(spec: PodSpec, at: Path) -> Found:
    name = spec.priority_class_name
    if not name:
        if spec.priority is not None and spec.priority > USER_PRIORITY_MAX:
            yield Problem(at / "priority", f"found {spec.priority}, expected at most {USER_PRIORITY_MAX}")
    elif name not in PRIORITY_CLASSES:
        known = " and ".join(sorted(PRIORITY_CLASSES))
        message = f"there is no class {clipped(name)}: PriorityClasses come with a later release, known are {known}"
        yield Problem(at / "priorityClassName", message, "set priority itself")
    elif spec.priority not in (None, PRIORITY_CLASSES[name]):
        message = f"found {spec.priority}, expected {PRIORITY_CLASSES[name]} (of {name}) or nothing"
        yield Problem(at / "priority", message)


@rule(Toleration)
def toleration(toleration: Toleration, at: Path) -> Found:
    if toleration.key:
        yield from named(toleration.key, naming.qualified_name(toleration.key), at / "key")
    elif toleration.operator != "Exists":
        yield Problem(at / "operator", "expected Exists, since key is empty (it then tolerates every taint)")
    if toleration.operator == "Exists" and toleration.value:
        yield Problem(at / "value", f"found {clipped(toleration.value)}, expected none with operator Exists")
    else:
        yield from named(toleration.value, naming.label_value(toleration.value), at / "value")
    if toleration.toleration_seconds is not None and toleration.effect != "NoExecute":
        yield Problem(at / "tolerationSeconds", "set, expected only with effect NoExecute")


# --- sysctls --------------------------------------------------------------------------------------------------------

_SYSCTL = re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*")
_IPC = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")


@rule(PodSecurityContext)
def sysctls(context: PodSecurityContext, at: Path) -> Found:
    names = [(s.name.replace("/", "."), at / "sysctls" / i / "name") for i, s in enumerate(context.sysctls)]
    yield from duplicates(names, "sysctl")
    for name, where in names:
        if name and not _SYSCTL.fullmatch(name):
            yield Problem(where, f"{clipped(name)} is not a sysctl's name")
        elif name and not name.startswith(("net.", *_IPC)):
            yield Problem(
                where, f"{clipped(name)} is the whole host's, expected one of net.* or of IPC (kernel.shm*, ...)"
            )


@rule(PodSpec)
def sysctls_of_the_host(spec: PodSpec, at: Path) -> Found:
    for index, sysctl in enumerate(spec.security_context.sysctls if spec.security_context else ()):
        where = at / "securityContext" / "sysctls" / index / "name"
        name = sysctl.name.replace("/", ".")
        if spec.host_network and name.startswith("net."):
            yield Problem(where, f"{clipped(name)} would be the host's, expected no net.* with hostNetwork")
        if spec.host_ipc and name.startswith(_IPC):
            yield Problem(where, f"{clipped(name)} would be the host's, expected no IPC sysctl with hostIPC")
