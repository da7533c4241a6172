"""Logs, exec and attach: the pod is looked up, the asker bound to it, and the request relayed to the pod's node.

The state of a session is the node's; its id begins with the node, so that any api relays the pulls that follow.
"""

from typing import TypeVar

import msgspec

from shoal.api.documents import DEFAULT_NAMESPACE
from shoal.api.live import Live
from shoal.bus.connection import Bus
from shoal.bus.rpc import Request, decode
from shoal.errors import BadRequest, NotFound, Unavailable
from shoal.model.pod import Pod
from shoal.names import PODS, ObjectKey, untoken
from shoal.wire import ExecRequest, LogsRequest, NodeSessionRequest, SessionOpened, SessionReply, SessionRequest

T = TypeVar("T", bound=msgspec.Struct)

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
OPEN_TIMEOUT_S = 10.0
PULL_TIMEOUT_S = 11.5  # the node answers within 10


class Sessions:
    def __init__(self, bus: Bus, live: Live) -> None:
        self._bus = bus
        self._live = live

    async def logs(self, request: Request) -> SessionOpened:
        asked: LogsRequest = decode(request, LogsRequest)
        return await self._open("logs", request, asked.name, asked.container, logs=asked)

    async def exec(self, request: Request) -> SessionOpened:
        asked: ExecRequest = decode(request, ExecRequest)
        if not asked.command:
            raise BadRequest("there is no command", path="command")
        return await self._open("exec", request, asked.name, asked.container, execute=asked)

    async def attach(self, request: Request) -> SessionOpened:
        asked: ExecRequest = decode(request, ExecRequest)
        return await self._open("attach", request, asked.name, asked.container, execute=asked)

    async def session(self, request: Request) -> SessionReply:
        """One pull. The user is the subject's, never the body's."""
        asked: SessionRequest = decode(request, SessionRequest)
        token, slash, _ = asked.session.partition("/")
        if not slash or not token or any(c in "*>. \t\r\n" for c in token):
            raise BadRequest("that is no session", path="session")
        asked.user = request.user
        return await self._ask(untoken(token), "session", asked, SessionReply, PULL_TIMEOUT_S, request.traceparent)

    async def _open(
        self,
        verb: str,
        request: Request,
        name: str,
        container: str,
        *,
        logs: LogsRequest | None = None,
        execute: ExecRequest | None = None,
    ) -> SessionOpened:
        if request.resource not in ("", PODS):
            raise BadRequest(f"{verb} is asked of pods, not of {request.resource}")
        namespace = request.namespace or DEFAULT_NAMESPACE
        await self._live.newest()
        stored = self._live.view.get(ObjectKey(PODS, namespace, name), Pod)
        if stored is None:
            raise NotFound(f'pods "{name}" not found')
        pod = stored.object
        chosen = choose_container(pod, container)
        if not pod.spec.node_name:
            raise BadRequest(f"pod {name} does not have a host assigned", hint="it is not scheduled yet")
        relayed = NodeSessionRequest(
            user=request.user,
            namespace=namespace,
            pod=name,
            uid=pod.metadata.uid,
            container=chosen,
            logs=logs,
            exec=execute,
        )
        return await self._ask(pod.spec.node_name, verb, relayed, SessionOpened, OPEN_TIMEOUT_S, request.traceparent)

    async def _ask(
        self, node: str, verb: str, body: msgspec.Struct, reply: type[T], timeout: float, traceparent: str
    ) -> T:
        """Raises: the node's own error; Unavailable with the node's name."""
        try:
            return await self._bus.request(
                self._bus.names.node(node, verb), body, reply, timeout=timeout, traceparent=traceparent
            )
        except ValueError as error:
            raise BadRequest(str(error)) from None
        except Unavailable as error:
            if self._bus.nc.is_connected:
                raise Unavailable(
                    f"node {node} does not answer", hint="it is down, or its agent is: see `shoal get nodes`"
                ) from error
            raise


def choose_container(pod: Pod, asked: str) -> str:
    """As the Kubernetes API does. Raises: BadRequest where none is named and there are several, or none of that name."""
    names = [c.name for c in pod.spec.containers]
    if asked:
        if asked not in (*names, *(c.name for c in pod.spec.init_containers)):
            raise BadRequest(
                f"container {asked} is not valid for pod {pod.metadata.name}", hint=f"it has {', '.join(names)}"
            )
        return asked
    default = pod.metadata.annotations.get(DEFAULT_CONTAINER, "")
    if default in names:
        return default
    if len(names) == 1:
        return names[0]
    raise BadRequest(
        f"a container name must be specified for pod {pod.metadata.name}, choose one of: [{' '.join(names)}]",
        path="container",
    )
