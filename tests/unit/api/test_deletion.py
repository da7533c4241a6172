"""Deletion against Kubernetes' rules: grace, finalizers, propagation, preconditions."""

from typing import Any

import pytest
from tests.unit.api.objects import NOW, POD, REPLICA_SET, made, with_spec

from shoal.api.deletion import Erase, Mark, decide
from shoal.errors import Conflict, Forbidden, Invalid
from shoal.wire import DeleteRequest

NAMESPACE = "{apiVersion: v1, kind: Namespace, metadata: {name: %s}}"


def a_pod(*, node: str = "n1", phase: str = "Running", grace: int = 30, **metadata: Any) -> Any:
    import msgspec

    pod = with_spec(made(POD, **metadata), node_name=node, termination_grace_period_seconds=grace)
    return msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, phase=phase))


def delete(obj: Any, now: str = NOW, **how: Any) -> Erase | Mark:
    return decide(obj, DeleteRequest(name="web", **how), now=now)


@pytest.mark.parametrize(
    ("pod", "how", "seconds", "at"),
    [
        (a_pod(), {}, 30, "2026-11-24T10:00:30Z"),
        (a_pod(grace=5), {}, 5, "2026-11-24T10:00:05Z"),
        (a_pod(grace=0), {}, 0, NOW),
        (a_pod(), {"grace_period_seconds": 90}, 90, "2026-11-24T10:01:30Z"),
        (a_pod(), {"grace_period_seconds": 0}, 0, NOW),  # without force the node still says when it is gone
        (a_pod(phase="Succeeded"), {}, 0, NOW),
        (a_pod(phase="Failed"), {"grace_period_seconds": 60}, 0, NOW),
    ],
)
def test_a_bound_pod_has_its_grace(pod: Any, how: dict[str, Any], seconds: int, at: str) -> None:
    found = delete(pod, **how)
    assert isinstance(found, Mark)
    meta = found.object.metadata
    assert (meta.deletion_grace_period_seconds, meta.deletion_timestamp) == (seconds, at)


def test_a_pod_that_was_never_bound_goes_at_once() -> None:
    assert isinstance(delete(a_pod(node="", phase="Pending")), Erase)


def test_a_forced_deletion_waits_for_no_node() -> None:
    assert isinstance(delete(a_pod(), force=True, grace_period_seconds=0), Erase)
    assert isinstance(delete(a_pod(), force=True), Mark)
    running = a_pod(deletion_timestamp="2026-11-24T10:00:30Z", deletion_grace_period_seconds=30)
    assert isinstance(delete(running, force=True, grace_period_seconds=0), Erase)


def test_a_finalizer_outlives_force_and_unbound() -> None:
    for pod in (a_pod(finalizers=("a/b",)), a_pod(node="", finalizers=("a/b",))):
        found = delete(pod, force=True, grace_period_seconds=0)
        assert isinstance(found, Mark)
        assert found.object.metadata.finalizers == ("a/b",)


@pytest.mark.parametrize(
    ("asked", "seconds", "at"),
    [
        (None, 20, "2026-11-24T10:00:20Z"),  # again, without a wish: nothing changes
        (40, 20, "2026-11-24T10:00:20Z"),  # never longer
        (20, 20, "2026-11-24T10:00:20Z"),
        (5, 5, "2026-11-24T10:00:05Z"),  # shorter: counted from the first deletion
        (0, 0, NOW),
    ],
)
def test_a_grace_period_that_runs_is_only_shortened(asked: int | None, seconds: int, at: str) -> None:
    running = a_pod(deletion_timestamp="2026-11-24T10:00:20Z", deletion_grace_period_seconds=20)
    found = delete(running, now="2026-11-24T10:00:03Z", grace_period_seconds=asked)
    assert isinstance(found, Mark)
    meta = found.object.metadata
    assert (meta.deletion_grace_period_seconds, meta.deletion_timestamp) == (seconds, at)
    if seconds == 20:
        assert found.object == running


@pytest.mark.parametrize(
    ("policy", "before", "after"),
    [
        ("Background", (), None),
        ("Foreground", (), ("foregroundDeletion",)),
        ("Orphan", (), ("orphan",)),
        ("Background", ("a/b",), ("a/b",)),
        ("Foreground", ("a/b",), ("a/b", "foregroundDeletion")),
        ("Orphan", ("foregroundDeletion",), ("orphan",)),  # whoever asks last, decides
        ("Foreground", ("orphan",), ("foregroundDeletion",)),
        ("Background", ("orphan", "foregroundDeletion"), None),
    ],
)
def test_propagation_is_told_by_finalizers(policy: str, before: tuple[str, ...], after: tuple[str, ...] | None) -> None:
    found = delete(made(REPLICA_SET, finalizers=before), propagation_policy=policy)
    if after is None:
        assert isinstance(found, Erase)
    else:
        assert isinstance(found, Mark)
        assert found.object.metadata.finalizers == after
        assert found.object.metadata.deletion_timestamp == NOW


def test_a_second_deletion_keeps_the_first_timestamp() -> None:
    marked = delete(made(REPLICA_SET), propagation_policy="Foreground").object
    again = delete(marked, now="2026-11-24T12:00:00Z", propagation_policy="Orphan")
    assert again.object.metadata.deletion_timestamp == NOW


def test_a_namespace_waits_for_its_contents() -> None:
    found = delete(made(NAMESPACE % "dev"))
    assert isinstance(found, Mark)
    assert found.object.metadata.deletion_timestamp == NOW


def test_the_namespace_default_stays() -> None:
    with pytest.raises(Forbidden):
        delete(made(NAMESPACE % "default"))


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"uid": "u1"}, None),
        ({"uid": "u9"}, Conflict),
        ({"resource_version": "7"}, None),
        ({"resource_version": "6"}, Conflict),
        ({"grace_period_seconds": -1}, Invalid),
        ({"propagation_policy": "Sideways"}, Invalid),
    ],
)
def test_preconditions(how: dict[str, Any], error: type[Exception] | None) -> None:
    if error is None:
        assert isinstance(delete(made(REPLICA_SET), **how), Erase)
    else:
        with pytest.raises(error):
            delete(made(REPLICA_SET), **how)


def test_generation_counts_the_first_mark_alone() -> None:
    marked = delete(a_pod()).object
    assert marked.metadata.generation == 2
    assert delete(marked, grace_period_seconds=0).object.metadata.generation == 2
