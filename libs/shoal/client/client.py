"""Requests to the api and their answers. Every method raises a ShoalError: the api's own, or Unavailable.

In arguments `namespace` "" is cluster scope (of a kind that lives in namespaces: `default`), None is all namespaces.
A `traceparent` goes with a write, and with every message of a session; the api begins a trace where none does.
Objects come and go as JSON (`msgspec.Raw`): who wants a struct decodes with `shoal.model.registry.decode`.
"""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from shoal import wire
from shoal.bus import jetstream
from shoal.bus.connection import Bus
from shoal.errors import BadRequest, Expired, Unavailable
from shoal.names import API_SERVICE, MESSAGE_ID, MESSAGE_ID_PATTERN, OUTCOME, TRACEPARENT, micro

if TYPE_CHECKING:
    from shoal.client.session import Session
    from shoal.model.event import Event

    Events = list[Event]  # inside the class, `list` is a verb

T = TypeVar("T")

TIMEOUT_S = 15.0
APPLY_TIMEOUT_S = 60.0
WATCH_WAIT_S = 10.0
WATCH_PATIENCE_S = 30.0  # so long a watch bears that nobody answers
LIST_TRIES = 5


class Client:
    def __init__(self, bus: Bus, *, user: str = "admin") -> None:
        self.bus = bus
        self.user = user

    # --- objects -------------------------------------------------------------------------------------------------------

    async def apply(self, request: wire.ApplyRequest, *, namespace: str = "", traceparent: str = "") -> wire.ApplyReply:
        """The reply's `error` is set if the whole was refused: nothing was written then."""
        return await self._ask(
            "apply", "", namespace, request, wire.ApplyReply, timeout=APPLY_TIMEOUT_S, traceparent=traceparent
        )

    async def create(
        self, resource: str, namespace: str, request: wire.CreateRequest, *, traceparent: str = ""
    ) -> msgspec.Raw:
        return await self._object("create", resource, namespace, request, traceparent)

    async def get(self, resource: str, namespace: str, name: str) -> msgspec.Raw:
        return await self._object("get", resource, namespace, wire.GetRequest(name=name))

    async def list(
        self, resource: str, namespace: str | None, *, label_selector: str = "", field_selector: str = ""
    ) -> wire.ListReply:
        """All of it, however many messages that takes."""
        for _ in range(LIST_TRIES):
            request = wire.ListRequest(label_selector=label_selector, field_selector=field_selector)
            try:
                first = await self._ask("list", resource, namespace, request, wire.ListReply)
                items, token = list(first.items), first.metadata.get("continue", "")
                while token:
                    request = msgspec.structs.replace(request, continue_=token)
                    more = await self._ask("list", resource, namespace, request, wire.ListReply)
                    items += more.items
                    token = more.metadata.get("continue", "")
            except Expired:
                continue  # too much happened between two pages
            first.metadata.pop("continue", None)
            return msgspec.structs.replace(first, items=items)
        raise Unavailable(f"{resource} change faster than they can be listed")

    async def watch(
        self,
        resource: str,
        namespace: str | None,
        *,
        since: str,
        name: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[wire.WatchEvent]:
        """What happens after revision `since` ("" = from now on), without end.

        Raises: Expired if that is too long ago (list again), Unavailable if nobody has answered for 30 s.
        """
        request = wire.WatchRequest(
            since=since,
            name=name,
            label_selector=label_selector,
            field_selector=field_selector,
            wait_seconds=WATCH_WAIT_S,
        )
        heard = time.monotonic()
        while True:
            try:
                reply = await self._ask("watch", resource, namespace, request, wire.WatchReply)
            except Unavailable:
                if time.monotonic() - heard > WATCH_PATIENCE_S:
                    raise
                await asyncio.sleep(random.uniform(0.1, 0.5))
                continue
            heard = time.monotonic()
            for event in reply.events:
                yield event
            request = msgspec.structs.replace(request, since=reply.revision)

    async def patch(
        self, resource: str, namespace: str, request: wire.PatchRequest, *, traceparent: str = ""
    ) -> msgspec.Raw:
        return await self._object("patch", resource, namespace, request, traceparent)

    async def delete(
        self, resource: str, namespace: str, request: wire.DeleteRequest, *, traceparent: str = ""
    ) -> msgspec.Raw:
        return await self._object("delete", resource, namespace, request, traceparent)

    async def scale(
        self, resource: str, namespace: str, request: wire.ScaleRequest, *, traceparent: str = ""
    ) -> msgspec.Raw:
        return await self._object("scale", resource, namespace, request, traceparent)

    async def events(self, namespace: str | None, request: wire.EventsRequest) -> "Events":
        """Oldest first."""
        from shoal.model.event import Event

        found: Events = []
        while True:
            reply = await self._ask("events", "", namespace, request, wire.ListReply)
            found += [msgspec.json.decode(item, type=Event) for item in reply.items]
            if not (token := reply.metadata.get("continue", "")):
                return found
            request = msgspec.structs.replace(request, continue_=token)

    async def version(self) -> str:
        """Of an api that answers. Raises: Unavailable if none does."""
        answer = await self.bus.request(micro("PING", API_SERVICE), b"", dict[str, Any], timeout=TIMEOUT_S)
        return str(answer.get("version", ""))

    # --- sessions ------------------------------------------------------------------------------------------------------

    async def logs(self, namespace: str, request: wire.LogsRequest, *, traceparent: str = "") -> "Session":
        return await self._open("logs", namespace, request, traceparent)

    async def exec(self, namespace: str, request: wire.ExecRequest, *, traceparent: str = "") -> "Session":
        return await self._open("exec", namespace, request, traceparent)

    async def attach(self, namespace: str, request: wire.ExecRequest, *, traceparent: str = "") -> "Session":
        return await self._open("attach", namespace, request, traceparent)

    async def _open(self, verb: str, namespace: str, request: msgspec.Struct, traceparent: str) -> "Session":
        from shoal.client.session import Session

        opened = await self._ask(verb, "pods", namespace, request, wire.SessionOpened, traceparent=traceparent)
        subject = self.bus.names.api(self.user, "session", "pods", namespace)
        return Session(self.bus, subject, opened.session, traceparent=traceparent)

    # --- the durable way -----------------------------------------------------------------------------------------------

    async def publish(
        self, manifest: str | bytes, *, namespace: str = "", message_id: str = "", traceparent: str = ""
    ) -> int:
        """Leave documents to be applied, whoever runs; the sequence, which is the outcome's id if none is given.

        Raises: BadRequest for an id that can be none; Unavailable: it may have been stored, or not.
        """
        headers = {}
        if message_id:
            if not re.fullmatch(MESSAGE_ID_PATTERN, message_id):
                raise BadRequest(f"{message_id!r} is no message id: 1 to 64 letters, digits, '-' and '_'")
            headers[MESSAGE_ID] = message_id
        if traceparent:
            headers[TRACEPARENT] = traceparent
        data = manifest.encode() if isinstance(manifest, str) else manifest
        return await jetstream.publish(self.bus, self.bus.names.manifests(self.user, namespace), data, headers=headers)

    async def outcome(self, message_id: str | int, *, timeout: float = 30.0) -> wire.ApplyReply:
        """What became of a published message. Raises: Unavailable if nothing is known within `timeout` seconds."""
        subject = self.bus.names.outcome(self.user, str(message_id))
        told: asyncio.Queue[bytes] = asyncio.Queue()

        async def arrived(message: object) -> None:
            if OUTCOME in message.headers:  # type: ignore[attr-defined]  # else it is an answer that was led here
                told.put_nowait(message.data)  # type: ignore[attr-defined]

        live = await self.bus.subscribe(subject, arrived)
        try:
            await self._earlier_outcome(subject, told)
            async with asyncio.timeout(timeout):
                return msgspec.json.decode(await told.get(), type=wire.ApplyReply)
        except TimeoutError:
            raise Unavailable(f"the outcome of {message_id} is not known within {timeout:g} s") from None
        finally:
            await live.stop()

    async def _earlier_outcome(self, subject: str, told: "asyncio.Queue[bytes]") -> None:
        stream = self.bus.names.outcomes_stream
        answer = await self.bus.ask(f"{self.bus.names.js}.DIRECT.GET.{stream}.{subject}")
        if OUTCOME in (answer.headers or {}):
            told.put_nowait(answer.data)

    # --- asking --------------------------------------------------------------------------------------------------------

    async def _object(
        self, verb: str, resource: str, namespace: str, request: msgspec.Struct, traceparent: str = ""
    ) -> msgspec.Raw:
        return msgspec.Raw(await self._ask(verb, resource, namespace, request, bytes, traceparent=traceparent))

    async def _ask(
        self,
        verb: str,
        resource: str,
        namespace: str | None,
        request: msgspec.Struct,
        reply: type[T],
        *,
        timeout: float = TIMEOUT_S,
        traceparent: str = "",
    ) -> T:
        try:
            subject = self.bus.names.api(self.user, verb, resource, namespace or "")
        except ValueError as error:
            raise BadRequest(str(error)) from None
        return await self.bus.request(subject, request, reply, timeout=timeout, traceparent=traceparent)
