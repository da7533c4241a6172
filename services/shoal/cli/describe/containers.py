"""The blocks of a pod that its template has too: containers, volumes."""

from collections.abc import Callable, Sequence

from shoal.cli.describe.page import NONE, Page, quantities, when
from shoal.model.container import Container, ContainerPort, ContainerState, ContainerStatus, EnvVar
from shoal.model.volume import Volume

Resolve = Callable[[str], str]  # the path of a field of the pod → its value


def containers(
    page: Page,
    title: str,
    wanted: Sequence[Container],
    statuses: Sequence[ContainerStatus] = (),
    *,
    resolve: Resolve | None = None,
    indent: str = "",
) -> None:
    """`indent` is a template's: it stands one step to the right of a pod's."""
    known = {status.name: status for status in statuses}
    page.line(f"{indent}{title}:" + ("" if wanted else f" {NONE}"))
    for container in wanted:
        status = known.get(container.name)
        page.line(f"{' ' if indent else ''}{container.name}:", 1)
        _basics(page, container, status)
        _words(page, "Command", container.command)
        _words(page, "Args", container.args)
        if status:
            _state(page, "State", status.state)
            if status.last_state.terminated:
                _state(page, "Last State", status.last_state)
            page.line(f"Ready:\t{status.ready}", 2)
            page.line(f"Restart Count:\t{status.restart_count}", 2)
        quantities(page, "Limits", container.resources.limits, 2)
        quantities(page, "Requests", container.resources.requests, 2)
        _environment(page, container.env, resolve)
        _mounts(page, container)


def _basics(page: Page, container: Container, status: ContainerStatus | None) -> None:
    if status:
        page.line(f"Container ID:\t{status.container_id}", 2)
    page.line(f"Image:\t{container.image}", 2)
    if status:
        page.line(f"Image ID:\t{status.image_id}", 2)
    _ports(page, "Port", container.ports, [port.container_port for port in container.ports])
    _ports(page, "Host Port", container.ports, [port.host_port for port in container.ports])
    if container.security_context and (profile := container.security_context.seccomp_profile):
        page.line(f"SeccompProfile:\t{profile.type}", 2)
        if profile.type == "Localhost":
            page.line(f"LocalhostProfile:\t{profile.localhost_profile}", 3)


def _ports(page: Page, title: str, ports: Sequence[ContainerPort], numbers: Sequence[int]) -> None:
    shown = ", ".join(f"{number}/{port.protocol or 'TCP'}" for port, number in zip(ports, numbers, strict=True))
    page.line(f"{title}{'s' if len(ports) > 1 else ''}:\t{shown or NONE}", 2)


def _words(page: Page, title: str, words: Sequence[str]) -> None:
    if words:
        page.line(f"{title}:", 2)
    for word in words:
        for line in word.split("\n"):
            page.line(line, 3)


def _state(page: Page, title: str, state: ContainerState) -> None:
    if running := state.running:
        page.line(f"{title}:\tRunning", 2)
        page.line(f"Started:\t{when(running.started_at)}", 3)
    elif ended := state.terminated:
        page.line(f"{title}:\tTerminated", 2)
        _reason(page, ended.reason, ended.message)
        page.line(f"Exit Code:\t{ended.exit_code}", 3)
        if ended.signal:
            page.line(f"Signal:\t{ended.signal}", 3)
        page.line(f"Started:\t{when(ended.started_at)}", 3)
        page.line(f"Finished:\t{when(ended.finished_at)}", 3)
    else:
        page.line(f"{title}:\tWaiting", 2)
        if state.waiting:
            _reason(page, state.waiting.reason, state.waiting.message)


def _reason(page: Page, reason: str, message: str) -> None:
    if reason:
        page.line(f"Reason:\t{reason}", 3)
    for number, line in enumerate(message.strip().split("\n") if message.strip() else ()):
        page.line(f"{'' if number else 'Message:'}\t{line}", 3)


def _environment(page: Page, variables: Sequence[EnvVar], resolve: Resolve | None) -> None:
    page.line("Environment:" + ("" if variables else f"\t{NONE}"), 2)
    for variable in variables:
        if variable.value_from and (ref := variable.value_from.field_ref):
            value = resolve(ref.field_path) if resolve else ""
            page.line(f"{variable.name}:\t{value} ({ref.api_version or 'v1'}:{ref.field_path})", 3)
            continue
        first, *rest = variable.value.split("\n")
        page.line(f"{variable.name}:\t{first}", 3)
        for line in rest:
            page.line(f"\t{line}", 3)


def _mounts(page: Page, container: Container) -> None:
    page.line("Mounts:" + ("" if container.volume_mounts else f"\t{NONE}"), 2)
    for mount in sorted(container.volume_mounts, key=lambda m: m.mount_path):
        flags = ("ro" if mount.read_only else "rw") + (f',path="{mount.sub_path}"' if mount.sub_path else "")
        page.line(f"{mount.mount_path} from {mount.name} ({flags})", 3)


def volumes(page: Page, items: Sequence[Volume], *, indent: str = "") -> None:
    page.line(f"{indent}Volumes:" + ("" if items else f"\t{NONE}"))
    for volume in items:
        page.line(f"{' ' if indent else ''}{volume.name}:", 1)
        if volume.host_path:
            page.line("Type:\tHostPath (bare host directory volume)", 2)
            page.line(f"Path:\t{volume.host_path.path}", 2)
            page.line(f"HostPathType:\t{volume.host_path.type}", 2)
        elif volume.empty_dir:
            page.line("Type:\tEmptyDir (a temporary directory that shares a pod's lifetime)", 2)
            page.line(f"Medium:\t{volume.empty_dir.medium}", 2)
            page.line(f"SizeLimit:\t{volume.empty_dir.size_limit or '<unset>'}", 2)
