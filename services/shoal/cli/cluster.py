"""What the verbs ask of a cluster: the client's methods, as far as they are used here (a test's fake has the same)."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Protocol, Self

import msgspec

from shoal import wire
from shoal.model.event import Event

Events = list[Event]  # in the class below `list` is a verb


class Session(Protocol):
    """Logs, exec or attach: iterate for output; `exit_code` is known after the last chunk."""

    exit_code: int | None

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None, /
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[wire.Chunk]: ...

    async def keep(self) -> None: ...

    def write(self, data: bytes) -> None: ...

    def close_stdin(self) -> None: ...

    def resize(self, width: int, height: int) -> None: ...

    @property
    def unsent(self) -> int: ...


class Cluster(Protocol):
    """`namespace` "" is cluster scope, None is all namespaces. Every method raises a ShoalError."""

    async def apply(
        self, request: wire.ApplyRequest, *, namespace: str = "", traceparent: str = ""
    ) -> wire.ApplyReply: ...

    async def create(self, resource: str, namespace: str, request: wire.CreateRequest) -> msgspec.Raw: ...

    async def get(self, resource: str, namespace: str, name: str) -> msgspec.Raw: ...

    async def list(
        self, resource: str, namespace: str | None, *, label_selector: str = "", field_selector: str = ""
    ) -> wire.ListReply: ...

    def watch(
        self,
        resource: str,
        namespace: str | None,
        *,
        since: str,
        name: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[wire.WatchEvent]: ...

    async def patch(self, resource: str, namespace: str, request: wire.PatchRequest) -> msgspec.Raw: ...

    async def delete(self, resource: str, namespace: str, request: wire.DeleteRequest) -> msgspec.Raw: ...

    async def scale(self, resource: str, namespace: str, request: wire.ScaleRequest) -> msgspec.Raw: ...

    async def events(self, namespace: str | None, request: wire.EventsRequest) -> Events: ...

    async def logs(self, namespace: str, request: wire.LogsRequest) -> Session: ...

    async def exec(self, namespace: str, request: wire.ExecRequest) -> Session: ...

    async def attach(self, namespace: str, request: wire.ExecRequest) -> Session: ...

    async def version(self) -> str: ...
