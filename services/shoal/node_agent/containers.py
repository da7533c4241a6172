"""What is asked of the engine for a pod: the bodies of its sandbox and of each container. Pure.

Names follow from pod and attempt, so that a create whose answer was lost collides with itself instead of doubling, and
a container can name its sandbox before that exists.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from shoal.errors import Invalid
from shoal.model import quantity, security
from shoal.model.container import Container
from shoal.model.pod import Pod
from shoal.model.resources import qos_class
from shoal.node_agent.environment import Place, environment, expand_all
from shoal.node_agent.runtime import pause
from shoal.node_agent.runtime.port import Image, Labels

CPU_PERIOD_US = 100_000
SHARES_MIN = 2
HOSTNAME_MAX = 63

# OOM scores as Kubernetes gives them (pkg/kubelet/qos): who is killed first when the host runs out of memory.
_OOM_SANDBOX = -998
_OOM_GUARANTEED = -997
_OOM_BEST_EFFORT = 1000


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """`source`: a path of the host, or with `volume` the name of one of the engine's."""

    source: str
    target: str
    read_only: bool = False
    propagation: str = "rprivate"
    volume: bool = False
    tmpfs: str = ""  # options of a volume that is memory


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """The pod's own hosts, resolv.conf and hostname; "" where the engine makes them."""

    hosts: str = ""
    resolv_conf: str = ""
    hostname: str = ""


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What of node and pod goes into every body. `network` "" is the fast sandbox, else the engine's network."""

    labels: Mapping[str, str]  # of owner and pod; each body adds its own
    sandbox_image: str
    place: Place
    files: Files = Files()
    network: str = ""
    selinux: bool = False
    node_memory_bytes: int = 0
    oom_floor: int = 0  # the lowest OOM score that the host lets anybody set
    dns: Mapping[str, list[str]] = {}  # Dns, DnsSearch, DnsOptions where the engine makes resolv.conf


def sandbox_name(labels: Labels) -> str:
    return f"shoal_POD_{labels.pod}_{labels.namespace}_{labels.uid}_{labels.generation}"


def container_name(labels: Labels) -> str:
    return f"shoal_{labels.container}_{labels.pod}_{labels.namespace}_{labels.uid}_{labels.attempt}"


def hostname(pod: Pod) -> str:
    return (pod.spec.hostname or pod.metadata.name)[:HOSTNAME_MAX].rstrip("-.")


# --- the sandbox -------------------------------------------------------------------------------------------------------


def sandbox_body(pod: Pod, labels: Mapping[str, str], ground: Ground) -> dict[str, Any]:
    """The sandbox leaves the host's network by itself (pause.py): SYS_ADMIN is for that one call.

    StopSignal: process 1 without handlers hears nothing but SIGKILL; an engine that shuts down need not wait for it.
    """
    spec = pod.spec
    host: dict[str, Any] = {
        "NetworkMode": "host" if spec.host_network or not ground.network else ground.network,
        "IpcMode": "host" if spec.host_ipc else "shareable",
        "CapDrop": ["ALL"],
        "CapAdd": [] if spec.host_network or ground.network else ["SYS_ADMIN"],
        "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined", "label=disable"],
        "LogConfig": {"Type": "none"},
        "ReadonlyRootfs": True,
        "OomScoreAdj": max(_OOM_SANDBOX, ground.oom_floor),
        "CpuShares": SHARES_MIN,
    }
    if spec.host_pid:
        host["PidMode"] = "host"
    if sysctls := _sysctls(pod, namespaced="ipc"):
        host["Sysctls"] = sysctls
    body: dict[str, Any] = {
        "Image": ground.sandbox_image,
        "Entrypoint": [pause.PATH, *([pause.STAY] if spec.host_network or ground.network else [])],
        "Labels": dict(labels),
        "StopSignal": "SIGKILL",
        "HostConfig": host,
    }
    if not spec.host_network:
        body["Hostname"] = hostname(pod)
    if ground.network and not spec.host_network:
        host["Sysctls"] = {**host.get("Sysctls", {}), **_sysctls(pod, namespaced="net")}
        host["ExtraHosts"] = [f"{name}:{alias.ip}" for alias in spec.host_aliases for name in alias.hostnames]
        host.update(ground.dns)
        body["ExposedPorts"], host["PortBindings"] = _port_bindings(pod)
        body["NetworkingConfig"] = {
            "EndpointsConfig": {ground.network: {"IPAMConfig": {"IPv4Address": ground.place.pod_ip}}}
        }
    return body


def _sysctls(pod: Pod, *, namespaced: str) -> dict[str, str]:
    """Of the pod's network (`net.*`) or of its IPC namespace (the rest)."""
    wanted = pod.spec.security_context.sysctls if pod.spec.security_context else ()
    return {s.name: s.value for s in wanted if s.name.startswith("net.") == (namespaced == "net")}


def net_sysctls(pod: Pod) -> dict[str, str]:
    return _sysctls(pod, namespaced="net")


def _port_bindings(pod: Pod) -> tuple[dict[str, Any], dict[str, Any]]:
    bound: dict[str, list[dict[str, str]]] = {}
    for container in pod.spec.containers:
        for port in container.ports:
            if port.host_port:
                key = f"{port.container_port}/{(port.protocol or 'TCP').lower()}"
                bound.setdefault(key, []).append({"HostIp": port.host_ip, "HostPort": str(port.host_port)})
    return {key: {} for key in bound}, bound


# --- a container -------------------------------------------------------------------------------------------------------


def container_body(
    pod: Pod,
    container: Container,
    labels: Mapping[str, str],
    ground: Ground,
    *,
    sandbox: str,
    mounts: tuple[Mount, ...],
    image: Image,
) -> dict[str, Any]:
    """`sandbox`: the name of the sandbox that it joins, which need not exist yet.

    Raises: Invalid if it may not run so (`runAsNonRoot`, a field that no pod has).
    """
    secure = security.effective(pod.spec.security_context, container.security_context)
    _check_user(secure, image)
    values = environment(pod, container, ground.place)
    host: dict[str, Any] = {
        **_namespaces(pod, sandbox),
        **_limits(pod, container, ground),
        **_security(pod, secure, selinux=ground.selinux),
        "Mounts": [*map(_mount, mounts), *_etc(ground.files, mounts)],
    }
    body: dict[str, Any] = {
        "Image": container.image,
        "Labels": dict(labels),
        "Env": [f"{name}={value}" for name, value in values.items()],
        "OpenStdin": container.stdin,
        "StdinOnce": container.stdin_once,
        "Tty": container.tty,
        # Without an engine's health check: what a pod's readiness is, its manifest says.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }
    if container.command:
        body["Entrypoint"] = expand_all(container.command, values)
    if container.args:
        body["Cmd"] = expand_all(container.args, values)
    if container.working_dir:
        body["WorkingDir"] = container.working_dir
    if secure.run_as_user is not None:
        group = f":{secure.run_as_group}" if secure.run_as_group is not None else ""
        body["User"] = f"{secure.run_as_user}{group}"
    elif secure.run_as_group is not None:
        body["User"] = f"{image.user.partition(':')[0] or '0'}:{secure.run_as_group}"
    return body


def _namespaces(pod: Pod, sandbox: str) -> dict[str, Any]:
    spec = pod.spec
    modes = {
        "NetworkMode": "host" if spec.host_network else f"container:{sandbox}",
        "IpcMode": "host" if spec.host_ipc else f"container:{sandbox}",
    }
    if spec.host_pid:
        modes["PidMode"] = "host"
    elif spec.share_process_namespace:
        modes["PidMode"] = f"container:{sandbox}"
    return modes


def _limits(pod: Pod, container: Container, ground: Ground) -> dict[str, Any]:
    requests, limits = container.resources.requests, container.resources.limits
    found: dict[str, Any] = {"OomScoreAdj": max(oom_score(pod, container, ground.node_memory_bytes), ground.oom_floor)}
    cpu = requests.get("cpu") or limits.get("cpu")
    found["CpuShares"] = max(SHARES_MIN, quantity.milli(cpu) * 1024 // 1000) if cpu else SHARES_MIN
    if limit := quantity.milli(limits.get("cpu", "0")):
        found["CpuPeriod"] = CPU_PERIOD_US
        found["CpuQuota"] = max(1000, limit * CPU_PERIOD_US // 1000)
    if limit := quantity.whole(limits.get("memory", "0")):
        found["Memory"] = found["MemorySwap"] = limit
    return found


def oom_score(pod: Pod, container: Container, node_memory_bytes: int) -> int:
    """The more of what it asked for a container has, the sooner it goes (Kubernetes' GetContainerOOMScoreAdjust)."""
    quality = qos_class(pod.spec)
    if quality == "Guaranteed":
        return _OOM_GUARANTEED
    if quality == "BestEffort" or not node_memory_bytes:
        return _OOM_BEST_EFFORT
    share = 1000 * quantity.whole(container.resources.requests.get("memory", "0")) // node_memory_bytes
    return min(max(1000 - share, 1000 + _OOM_GUARANTEED), _OOM_BEST_EFFORT - 1)


def _security(pod: Pod, secure: security.SecurityContext, *, selinux: bool) -> dict[str, Any]:
    options = []
    if secure.allow_privilege_escalation is False:
        options.append("no-new-privileges")
    if (profile := secure.seccomp_profile) is not None and profile.type == "Unconfined":
        options.append("seccomp=unconfined")
    if (armor := secure.app_armor_profile) is not None:
        if armor.type == "Unconfined":
            options.append("apparmor=unconfined")
        elif armor.type == "Localhost":
            options.append(f"apparmor={armor.localhost_profile}")
    if (label := secure.se_linux_options) is not None:
        parts = {"user": label.user, "role": label.role, "type": label.type, "level": label.level}
        options += [f"label={key}:{value}" for key, value in parts.items() if value]
    elif not selinux:
        # Spares the engine a look at the sandbox's label, so that the two can be created side by side.
        options.append("label=disable")
    found: dict[str, Any] = {
        "SecurityOpt": options,
        "Privileged": bool(secure.privileged),
        "ReadonlyRootfs": bool(secure.read_only_root_filesystem),
    }
    if (caps := secure.capabilities) is not None:
        found["CapAdd"], found["CapDrop"] = list(caps.add), list(caps.drop)
    context = pod.spec.security_context
    if context is not None:
        groups = [*context.supplemental_groups, *([context.fs_group] if context.fs_group is not None else [])]
        if groups:
            found["GroupAdd"] = [str(g) for g in groups]
    return found


def _check_user(secure: security.SecurityContext, image: Image) -> None:
    if not secure.run_as_non_root:
        return
    if secure.run_as_user is not None:
        if secure.run_as_user == 0:
            raise Invalid("container's runAsUser breaks non-root policy")
        return
    user = image.user.partition(":")[0]
    if user in {"", "0", "root"}:
        raise Invalid("container has runAsNonRoot and image will run as root")
    if not user.isdigit():
        raise Invalid(
            f"container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root"
        )


def _mount(mount: Mount) -> dict[str, Any]:
    made: dict[str, Any] = {
        "Type": "volume" if mount.volume else "bind",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
    if not mount.volume:
        made["BindOptions"] = {"Propagation": mount.propagation}
    elif mount.tmpfs:
        options = {"type": "tmpfs", "device": "tmpfs", "o": mount.tmpfs}
        made["VolumeOptions"] = {"DriverConfig": {"Name": "local", "Options": options}}
    return made


def _etc(files: Files, mounts: tuple[Mount, ...]) -> list[dict[str, Any]]:
    """The pod's own files over the engine's, except where the manifest mounts something itself."""
    taken = {m.target.rstrip("/") for m in mounts}
    own = {"/etc/hosts": files.hosts, "/etc/resolv.conf": files.resolv_conf, "/etc/hostname": files.hostname}
    return [
        _mount(Mount(source=source, target=target))
        for target, source in own.items()
        if source and target not in taken and "/etc" not in taken
    ]
