"""What the engine's answers are read as."""

import msgspec
import pytest

from shoal.node_agent.runtime.answers import Event, FoundImage, Inspected, Progress, fact_of
from shoal.node_agent.runtime.port import CREATED, EXITED, RUNNING


def inspected(**state: object) -> Inspected:
    answer = {
        "Id": "c1",
        "Created": "2026-01-01T00:00:00.123456789Z",
        "State": {"StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z", **state},
        "Config": {"Labels": {}, "Image": "i"},
    }
    return msgspec.json.decode(msgspec.json.encode(answer), type=Inspected)


@pytest.mark.parametrize(
    ("state", "known"),
    [
        ({"Status": "created"}, CREATED),
        ({"Status": "created", "Error": "no such file", "ExitCode": 127}, EXITED),
        ({"Status": "running", "Running": True, "StartedAt": "2026-01-01T00:00:01.5Z"}, RUNNING),
        ({"Status": "paused", "StartedAt": "2026-01-01T00:00:01Z"}, RUNNING),
        ({"Status": "exited", "StartedAt": "2026-01-01T00:00:01Z", "FinishedAt": "2026-01-01T00:00:02Z"}, EXITED),
    ],
)
def test_a_containers_state(state: dict[str, object], known: str) -> None:
    assert fact_of(inspected(**state)).state == known


def test_one_that_could_not_start_says_why_and_ended_when_it_was_made() -> None:
    fact = fact_of(inspected(Status="created", Error="no such file"))
    assert (fact.error, fact.finished_at) == ("no such file", fact.created_at)


def test_an_event_an_image_and_a_pulls_progress() -> None:
    said = b'{"Type":"container","Action":"die","Actor":{"ID":"c1","Attributes":{"exitCode":"7"}},"timeNano":5}'
    event = msgspec.json.decode(said, type=Event)
    assert (event.Action, event.Actor.ID, event.Actor.Attributes["exitCode"]) == ("die", "c1", "7")
    image = msgspec.json.decode(b'{"Id":"sha256:1","RepoDigests":null,"Config":{"User":"7"}}', type=FoundImage)
    assert image.Config is not None
    assert image.Config.User == "7"
    assert msgspec.json.decode(b'{"error":"denied","status":"x"}', type=Progress).error == "denied"
