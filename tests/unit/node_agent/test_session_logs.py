"""Logs of a container that has not begun: why not, in kubectl's words."""

import msgspec
import pytest
from tests.unit.node_agent.made import a_fact
from tests.unit.node_agent.simulated import SimulatedRuntime

from shoal.bus.rpc import Request
from shoal.errors import BadRequest
from shoal.node_agent.runtime.port import CREATED, Fact
from shoal.node_agent.sessions import Sessions
from shoal.wire import LogsRequest, NodeSessionRequest


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("ErrImagePull", "image can't be pulled"),
        ("ImagePullBackOff", "trying and failing to pull image"),
        ("PodInitializing", "PodInitializing"),
        ("", "ContainerCreating"),
    ],
)
@pytest.mark.parametrize("found", [(), (a_fact(state=CREATED),)])
async def test_what_has_not_begun_says_why(reason: str, said: str, found: tuple[Fact, ...]) -> None:
    sessions = Sessions("n1", SimulatedRuntime(), lambda *_: found, lambda *_: reason)
    asked = NodeSessionRequest(
        user="u", namespace="default", uid="u1", pod="web-1", container="web", logs=LogsRequest(name="web-1")
    )
    with pytest.raises(BadRequest) as refused:
        await sessions.handle(Request("shoal.node.n1.logs", msgspec.json.encode(asked), ("node", "n1", "logs")))
    assert refused.value.message == f'container "web" in pod "web-1" is waiting to start: {said}'
