"""Rules of one container and of what it mounts."""

import re

from shoal.model import naming, quantity
from shoal.model.container import (
    Container,
    ContainerPort,
    EnvVar,
    EnvVarSource,
    ObjectFieldSelector,
    ResourceRequirements,
)
from shoal.model.nearest import did_you_mean
from shoal.model.problem import Path, Problem, clipped
from shoal.model.rules import Found, duplicates, named, rule
from shoal.model.security import AppArmorProfile, Capabilities, SeccompProfile, SecurityContext
from shoal.model.volume import EmptyDirVolumeSource, HostPathVolumeSource, Volume, VolumeMount

# distribution/reference's grammar, names below 255 characters
_IMAGE = re.compile(
    r"(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::\d+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[\w][\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
RESOURCES = ("cpu", "memory", "ephemeral-storage")


@rule(Container)
def container_name(container: Container, at: Path) -> Found:
    if container.name:
        yield from named(container.name, naming.dns_label(container.name), at / "name")


@rule(Container)
def image(container: Container, at: Path) -> Found:
    text = container.image
    if text and (len(text) > 512 or not _IMAGE.fullmatch(text)):
        hint = "image names are lower case" if _IMAGE.fullmatch(text.lower()) else ""
        yield Problem(at / "image", f"{clipped(text)} is not an image, expected [registry/]name[:tag][@digest]", hint)


@rule(Container)
def paths(container: Container, at: Path) -> Found:
    for wire, path in (
        ("workingDir", container.working_dir),
        ("terminationMessagePath", container.termination_message_path),
    ):
        if path and not path.startswith("/"):
            yield Problem(at / wire, f"found {clipped(path)}, expected an absolute path")


@rule(Container)
def ports_are_unique(container: Container, at: Path) -> Found:
    ports = list(enumerate(container.ports))
    yield from duplicates(((p.name, at / "ports" / i / "name") for i, p in ports), "port name")
    numbers = (
        ((p.container_port, p.protocol), at / "ports" / i / "containerPort") for i, p in ports if p.container_port
    )
    yield from duplicates(numbers, "port")


@rule(ContainerPort)
def port(port: ContainerPort, at: Path) -> Found:
    if port.name:
        yield from named(port.name, naming.port_name(port.name), at / "name")
    if port.host_ip:
        yield from named(port.host_ip, naming.ipv4_address(port.host_ip), at / "hostIP")  # pods have IPv4 alone
        if not port.host_port:
            yield Problem(at / "hostIP", "set without hostPort, expected both or neither")


@rule(Container)
def mount_paths_are_unique(container: Container, at: Path) -> Found:
    mounts = enumerate(container.volume_mounts)
    paths = ((_normal(m.mount_path), at / "volumeMounts" / i / "mountPath") for i, m in mounts)
    yield from duplicates(paths, "mount path")


def _normal(path: str) -> str:
    return path.rstrip("/") or path


@rule(Container)
def shared_mounts_need_privilege(container: Container, at: Path) -> Found:
    privileged = container.security_context is not None and container.security_context.privileged
    for index, mount in enumerate(container.volume_mounts):
        if mount.mount_propagation == "Bidirectional" and not privileged:
            where = at / "volumeMounts" / index / "mountPropagation"
            yield Problem(
                where, "Bidirectional in a container that is not privileged, expected None or HostToContainer"
            )


@rule(VolumeMount)
def mount(mount: VolumeMount, at: Path) -> Found:
    path = mount.mount_path
    if path and (not path.startswith("/") or ":" in path):
        yield Problem(at / "mountPath", f"found {clipped(path)}, expected an absolute path without ':'")
    if mount.sub_path and not _stays_inside(mount.sub_path):
        yield Problem(at / "subPath", f"found {clipped(mount.sub_path)}, expected a relative path without '..'")


def _stays_inside(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/")


@rule(Volume)
def one_source(volume: Volume, at: Path) -> Found:
    if volume.empty_dir is not None and volume.host_path is not None:
        yield Problem(at, "has emptyDir and hostPath, expected one of them")


@rule(HostPathVolumeSource)
def host_path(source: HostPathVolumeSource, at: Path) -> Found:
    if source.path and (not source.path.startswith("/") or ".." in source.path.split("/")):
        yield Problem(at / "path", f"found {clipped(source.path)}, expected an absolute path without '..'")


@rule(EmptyDirVolumeSource)
def size_limit(source: EmptyDirVolumeSource, at: Path) -> Found:
    if source.size_limit and quantity.parse(source.size_limit) < 0:
        yield Problem(at / "sizeLimit", f"found {source.size_limit}, expected 0 or more")


# --- environment ------------------------------------------------------------------------------------------------------

FIELD_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_KEYED_FIELD = re.compile(r"metadata\.(?:labels|annotations)\['([^']+)'\]")


@rule(EnvVar)
def variable(variable: EnvVar, at: Path) -> Found:
    if variable.name:
        yield from named(variable.name, naming.env_name(variable.name), at / "name")
    if variable.value and variable.value_from is not None:
        yield Problem(at / "valueFrom", "set beside value, expected one of them")


@rule(EnvVarSource)
def variable_source(source: EnvVarSource, at: Path) -> Found:
    if source.field_ref is None:
        yield Problem(at, "names no source, expected fieldRef")


@rule(ObjectFieldSelector)
def field_path(selector: ObjectFieldSelector, at: Path) -> Found:
    if selector.api_version not in ("", "v1"):
        yield Problem(at / "apiVersion", f"found {clipped(selector.api_version)}, expected v1")
    path = selector.field_path
    if not path or path in FIELD_PATHS:
        return
    if keyed := _KEYED_FIELD.fullmatch(path):
        yield from named(keyed[1], naming.qualified_name(keyed[1]), at / "fieldPath")
        return
    known = (*FIELD_PATHS, "metadata.labels['KEY']", "metadata.annotations['KEY']")
    hint = did_you_mean(path, known) or f"known are {', '.join(known)}"
    yield Problem(at / "fieldPath", f"{clipped(path)} is not a field that a variable can have", hint)


# --- resources --------------------------------------------------------------------------------------------------------


@rule(ResourceRequirements)
def resources(resources: ResourceRequirements, at: Path) -> Found:
    for wire, quantities in (("limits", resources.limits), ("requests", resources.requests)):
        for name, text in quantities.items():
            where = at / wire / name
            if name not in RESOURCES:
                if wire == "requests" and name in resources.limits:
                    continue  # filled in from there
                hint = did_you_mean(name, RESOURCES)
                yield Problem(
                    where, f"resource {clipped(name)} is not supported, expected {', '.join(RESOURCES)}", hint
                )
            elif quantity.parse(text) < 0:
                yield Problem(where, f"found {text}, expected 0 or more")
    for name, request in resources.requests.items():
        limit = resources.limits.get(name)
        if limit is not None and quantity.parse(request) > quantity.parse(limit):
            yield Problem(at / "requests" / name, f"found {request}, expected at most the limit of {limit}")


# --- security ---------------------------------------------------------------------------------------------------------

_CAPABILITIES = """
    ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH
    FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN
    NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT
    SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
"""
CAPABILITIES = tuple(_CAPABILITIES.split())


@rule(Capabilities)
def capabilities(capabilities: Capabilities, at: Path) -> Found:
    for wire, names in (("add", capabilities.add), ("drop", capabilities.drop)):
        for index, name in enumerate(names):
            if name.removeprefix("CAP_") not in CAPABILITIES:
                yield Problem(
                    at / wire / index,
                    f"unknown capability {clipped(name)}, expected one of Linux' without CAP_",
                    did_you_mean(name.removeprefix("CAP_"), CAPABILITIES),
                )


@rule(SecurityContext)
def privileges(context: SecurityContext, at: Path) -> Found:
    if context.allow_privilege_escalation is not False:
        return
    where = at / "allowPrivilegeEscalation"
    if context.privileged:
        yield Problem(where, "false beside privileged: true, expected true or nothing")
    added = {name.removeprefix("CAP_") for name in (context.capabilities.add if context.capabilities else ())}
    if "SYS_ADMIN" in added:
        yield Problem(where, "false beside the capability SYS_ADMIN, expected true or nothing")


@rule(SeccompProfile)
def seccomp(profile: SeccompProfile, at: Path) -> Found:
    yield from _local(profile, at)
    if profile.localhost_profile and not _stays_inside(profile.localhost_profile):
        found = clipped(profile.localhost_profile)
        yield Problem(at / "localhostProfile", f"found {found}, expected a relative path without '..'")


@rule(AppArmorProfile)
def app_armor(profile: AppArmorProfile, at: Path) -> Found:
    yield from _local(profile, at)


def _local(profile: SeccompProfile | AppArmorProfile, at: Path) -> Found:
    if profile.type == "Localhost" and not profile.localhost_profile:
        yield Problem(at / "localhostProfile", "missing, expected a profile with type Localhost")
    if profile.type != "Localhost" and profile.localhost_profile:
        yield Problem(at / "localhostProfile", f"set, expected none with type {profile.type}")
