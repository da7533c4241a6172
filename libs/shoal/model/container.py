"""Containers: what is wanted of one, and what is seen of it."""

from typing import Annotated

from shoal.model.field import PORT, QUANTITY, REQUIRED, TIME, at_least, merge_key, one_of
from shoal.model.meta import Record, always
from shoal.model.security import SecurityContext
from shoal.model.volume import VolumeMount

PULL_POLICIES = ("Always", "IfNotPresent", "Never")


class ContainerPort(Record, frozen=True, kw_only=True):
    """`host_port` 0: none; `host_ip` "": every address of the host."""

    name: str = ""
    container_port: Annotated[int, REQUIRED, PORT] = 0
    host_port: Annotated[int, at_least(0, 65535)] = 0
    host_ip: str = ""
    protocol: Annotated[str, one_of("TCP", "UDP")] = ""


class ObjectFieldSelector(Record, frozen=True, kw_only=True):
    api_version: str = ""
    field_path: Annotated[str, REQUIRED] = ""


class EnvVarSource(Record, frozen=True, kw_only=True):
    field_ref: ObjectFieldSelector | None = None


class EnvVar(Record, frozen=True, kw_only=True):
    """`value` may name variables before it as `$(NAME)`; `$$` is a dollar."""

    name: Annotated[str, REQUIRED] = ""
    value: str = ""
    value_from: EnvVarSource | None = None


Quantities = dict[str, Annotated[str, QUANTITY]]


class ResourceRequirements(Record, frozen=True, kw_only=True):
    """Quantities by resource (`cpu`, `memory`, `ephemeral-storage`), as text in Kubernetes' canonical form."""

    limits: Quantities = {}
    requests: Quantities = {}


class Container(Record, frozen=True, kw_only=True):
    """`command` replaces the image's entrypoint, `args` its command."""

    name: Annotated[str, REQUIRED] = ""
    image: Annotated[str, REQUIRED] = ""
    image_pull_policy: Annotated[str, one_of(*PULL_POLICIES)] = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: Annotated[tuple[EnvVar, ...], merge_key("name")] = ()
    ports: Annotated[tuple[ContainerPort, ...], merge_key("containerPort", "protocol")] = ()
    resources: ResourceRequirements = ResourceRequirements()
    volume_mounts: Annotated[tuple[VolumeMount, ...], merge_key("mountPath")] = ()
    security_context: SecurityContext | None = None
    termination_message_path: str = ""
    termination_message_policy: Annotated[str, one_of("File", "FallbackToLogsOnError")] = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


class ContainerStateWaiting(Record, frozen=True, kw_only=True):
    """`reason`: ContainerCreating, PodInitializing, ImagePullBackOff, ErrImagePull, CrashLoopBackOff, ..."""

    reason: str = ""
    message: str = ""


class ContainerStateRunning(Record, frozen=True, kw_only=True):
    started_at: Annotated[str, TIME] | None = None


class ContainerStateTerminated(Record, frozen=True, kw_only=True):
    """`reason`: Completed, Error, OOMKilled, ContainerCannotRun, ..."""

    exit_code: int = always(0)
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: Annotated[str, TIME] | None = None
    finished_at: Annotated[str, TIME] | None = None
    container_id: str = ""


class ContainerState(Record, frozen=True, kw_only=True):
    """One of them is set; none is *waiting*."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Record, frozen=True, kw_only=True):
    """`container_id` is `docker://<id>`."""

    name: str = ""
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    ready: bool = always(False)
    restart_count: int = always(0)
    image: str = always("")
    image_id: str = always("")
    container_id: str = ""
    started: bool | None = None
