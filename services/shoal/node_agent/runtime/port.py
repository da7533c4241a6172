"""What the agent asks of whatever runs its containers: facts out, calls in. Docker's engine is behind it (`engine.py`);
a simulated one can take its place.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from shoal.errors import NotFound, ShoalError

SANDBOX = ""  # the container name of a sandbox

CREATED, RUNNING, EXITED = "created", "running", "exited"


class EngineError(ShoalError):
    """The engine answered with an error. `status`: its HTTP status (409: the name is taken)."""

    def __init__(self, message: str, *, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class EngineNotFound(EngineError, NotFound):
    """No such container, image, network."""

    code = 404
    reason = "NotFound"


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """What a container of ours says of itself; an agent that restarts knows all that it must from these.

    `attempt` counts the containers of one name from 0; `failures` those that failed in a row before this one;
    `generation` the sandboxes of the pod: a container belongs to the sandbox of its generation. `address`: the pod's,
    on a sandbox that has one of its own.
    """

    uid: str
    namespace: str
    pod: str
    container: str = SANDBOX
    attempt: int = 0
    failures: int = 0
    generation: int = 0
    address: str = ""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One container as the engine has it. Times are Unix seconds, 0 = never."""

    id: str
    labels: Labels
    state: str = CREATED
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""  # why it could not be started
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    image: str = ""
    image_id: str = ""
    pid: int = 0  # as the engine's host counts


class Listed(msgspec.Struct, frozen=True):
    """The engine answers (again), and this is all that it has of ours."""

    facts: tuple[Fact, ...]
    asked_at: float = 0.0  # Unix seconds: what was made since may be missing


class Lost(msgspec.Struct, frozen=True):
    """The engine does not answer any more."""

    why: str


class Changed(msgspec.Struct, frozen=True):
    """One container changed: `what` is start, die, oom or destroy. `at`: Unix seconds, by the engine's clock."""

    id: str
    uid: str
    what: str
    at: float
    exit_code: int = 0


class ImagesChanged(msgspec.Struct, frozen=True):
    """What was known of images may be wrong now."""


EngineEvent = Listed | Lost | Changed | ImagesChanged


class Image(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    digest: str = ""  # `repo@sha256:…` where it came from a registry
    user: str = ""


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    version: str = ""
    architecture: str = ""
    kernel: str = ""
    os: str = ""
    cpus: int = 0
    memory_bytes: int = 0
    root: str = ""  # where it keeps its data
    selinux: bool = False
    rootless: bool = False
    remapped: bool = False


class Output(Protocol):
    """A stream of (stream number, bytes), read only as far as its reader asks."""

    async def read(self) -> tuple[int, bytes] | None:
        """The next piece, None at the end."""

    async def close(self) -> None: ...


class Terminal(Output, Protocol):
    """A process with its input."""

    async def write(self, data: bytes) -> None: ...

    async def write_eof(self) -> None: ...

    async def resize(self, width: int, height: int) -> None: ...

    async def exit_code(self) -> int | None:
        """None while it runs."""


class Runtime(Protocol):
    """Raises everywhere: EngineError, EngineNotFound; Unavailable while the engine does not answer."""

    def events(self) -> AsyncIterator[EngineEvent]:
        """Begins with `Listed`; after a loss `Lost`, then `Listed` again. Never ends."""

    async def info(self) -> EngineInfo: ...

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        """The new container's id. A name that is taken is an EngineError of status 409."""

    async def start(self, container: str) -> None: ...

    async def inspect(self, container: str) -> Fact: ...

    async def pid(self, container: str) -> int:
        """0: it does not run."""

    async def stop(self, container: str, grace_s: int) -> None:
        """Ask it to end, kill it after `grace_s`; returns when it has ended. One that is gone is no error."""

    async def remove(self, container: str) -> None:
        """Kill and remove. One that is gone is no error."""

    async def ensure_network(self, name: str, body: Mapping[str, Any]) -> None:
        """A network of the engine's with that subnet."""

    async def remove_volumes(self, uid: str) -> None:
        """The engine's volumes that were made for a pod."""

    async def image(self, reference: str) -> Image | None: ...

    async def pull(self, reference: str, auth: Mapping[str, str] | None) -> None: ...

    async def import_image(self, reference: str, archive: bytes, *, platform: str) -> None: ...

    async def logs(self, container: str, query: Mapping[str, str]) -> Output: ...

    async def exec(
        self, container: str, command: Sequence[str], *, stdin: bool, tty: bool, env: Mapping[str, str]
    ) -> Terminal:
        """`env`: added to the container's own."""

    async def attach(self, container: str, *, stdin: bool, tty: bool) -> Terminal: ...

    async def close(self) -> None: ...
