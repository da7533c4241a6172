"""Reports: a node says what is its own to say, once, and of the object that is there."""

from typing import Any

import msgspec
import pytest
from tests.unit.api.objects import POD, made, with_spec

from shoal.api.reports import Refuse, Unchanged, Write, check, subject_of
from shoal.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge
from shoal.model.meta import ObjectMeta
from shoal.model.node import Node
from shoal.names import ObjectKey
from shoal.store.records import Entry
from shoal.store.stored import Observed, Stored, decode_observed
from shoal.wire import Report

RUNNING = msgspec.Raw(b'{"phase":"Running","podIP":"10.208.0.5"}')


def pod_on(node: str, uid: str = "u1") -> Stored[Any]:
    obj = with_spec(made(POD, uid=uid), node_name=node)
    return Stored(ObjectKey("pods", "default", "web"), b"", 7, obj, {})


def the_node() -> Stored[Any]:
    return Stored(ObjectKey("nodes", "", "n1"), b"", 3, Node(metadata=ObjectMeta(name="n1", uid="n-uid")), {})


def a_report(**how: Any) -> Report:
    return Report(**({"resource": "pods", "namespace": "default", "name": "web", "uid": "u1", "status": RUNNING} | how))


def entry(observed: Observed, revision: int = 9) -> Entry:
    return Entry("observed.n1.pods.default.web", msgspec.json.encode(observed), revision)


def stored_by(report: Report) -> Entry:
    found = check("n1", report, pod_on("n1"), None)
    assert isinstance(found, Write)
    return Entry("observed.n1.pods.default.web", found.value, 9)


def test_a_first_report_is_written_as_it_is() -> None:
    found = check("n1", a_report(revision=0), pod_on("n1"), None)
    assert isinstance(found, Write)
    record = decode_observed(found.value)
    assert (found.expected, record.uid, record.gone, bytes(record.status)) == (0, "u1", False, bytes(RUNNING))


@pytest.mark.parametrize("revision", [0, 9, -1, 4])
def test_what_is_known_is_not_written_again_whatever_the_node_remembers(revision: int) -> None:
    """Also the repeat of a report whose answer was lost: the node then names the revision before."""
    found = check("n1", a_report(revision=revision), pod_on("n1"), stored_by(a_report()))
    assert found == Unchanged(9)


@pytest.mark.parametrize(("revision", "passes"), [(9, True), (-1, True), (8, False), (0, False)])
def test_a_change_names_what_it_replaces(revision: int, passes: bool) -> None:
    found = check(
        "n1",
        a_report(revision=revision, status=msgspec.Raw(b'{"phase":"Failed"}')),
        pod_on("n1"),
        stored_by(a_report()),
    )
    if passes:
        assert isinstance(found, Write)
        assert found.expected == 9
    else:
        assert isinstance(found, Refuse)
        assert isinstance(found.error, Conflict)
        assert (found.revision, found.confirm) == (9, True)


@pytest.mark.parametrize(
    ("node", "about", "how", "error", "confirm"),
    [
        ("n2", pod_on("n1"), {}, Forbidden, True),  # bound to another
        ("n1", pod_on(""), {}, Forbidden, True),  # or not bound yet, as far as this view knows
        ("n1", None, {}, NotFound, True),
        ("n1", pod_on("n1", uid="u2"), {}, NotFound, True),  # its successor
        ("n1", pod_on("n1"), {"resource": "replicasets"}, Forbidden, False),
        ("n1", pod_on("n1"), {"resource": ""}, Forbidden, False),
        ("n1", pod_on("n1"), {"status": msgspec.Raw(b'{"phase":5}')}, Invalid, False),
        ("n1", pod_on("n1"), {"status": msgspec.Raw(b"[]")}, Invalid, False),
        ("n1", pod_on("n1"), {"status": msgspec.Raw(b'{"message":"' + b"x" * 131_072 + b'"}')}, TooLarge, False),
    ],
)
def test_what_is_not_its_to_say_is_refused(
    node: str, about: Any, how: dict[str, Any], error: type[Exception], confirm: bool
) -> None:
    found = check(node, a_report(**how), about, None)
    assert isinstance(found, Refuse)
    assert isinstance(found.error, error)
    assert found.confirm is confirm


@pytest.mark.parametrize("late", [(1, 900), (2, 4)])
def test_what_was_said_before_and_arrives_after_is_refused(late: tuple[int, int]) -> None:
    """Of a session before, or of this one: it names no revision that would tell."""
    known = stored_by(a_report(order=(2, 5)))
    found = check(
        "n1", a_report(order=late, revision=-1, status=msgspec.Raw(b'{"phase":"Pending"}')), pod_on("n1"), known
    )
    assert isinstance(found, Refuse)
    assert isinstance(found.error, Conflict)
    assert found.revision == 9


def test_what_says_nothing_new_is_stored_if_something_older_may_arrive_yet() -> None:
    known = stored_by(a_report(order=(2, 5)))
    assert check("n1", a_report(order=(2, 7), revision=9), pod_on("n1"), known) == Unchanged(9)
    found = check("n1", a_report(order=(2, 7), revision=9, overtakes=True), pod_on("n1"), known)
    assert isinstance(found, Write)
    again = Entry("observed.n1.pods.default.web", found.value, 10)
    late = check("n1", a_report(order=(2, 6), revision=9, status=msgspec.Raw(b"{}")), pod_on("n1"), again)
    assert isinstance(late, Refuse)
    assert check("n1", a_report(order=(2, 7), revision=9, overtakes=True), pod_on("n1"), again) == Unchanged(10)


def test_a_successors_first_report_is_taken_whatever_its_order() -> None:
    known = stored_by(a_report(order=(9, 9)))
    assert isinstance(check("n1", a_report(uid="u2", order=(1, 1)), pod_on("n1", uid="u2"), known), Write)


def test_gone_stays_gone() -> None:
    gone = stored_by(a_report(gone=True))
    found = check("n1", a_report(status=msgspec.Raw(b'{"phase":"Failed"}')), pod_on("n1"), gone)
    assert isinstance(found, Write)
    assert decode_observed(found.value).gone


def test_a_predecessors_entry_is_replaced_and_leaves_nothing() -> None:
    old = entry(Observed(uid="u0", gone=True, status=RUNNING))
    found = check("n1", a_report(), pod_on("n1"), old)
    assert isinstance(found, Write)
    assert (found.expected, decode_observed(found.value).gone) == (9, False)


def test_an_entry_nobody_can_read_is_replaced() -> None:
    found = check("n1", a_report(), pod_on("n1"), Entry("observed.n1.pods.default.web", b"{", 4))
    assert isinstance(found, Write)
    assert found.expected == 4


@pytest.mark.parametrize("resource", ["nodes", "nodenetworks"])
def test_a_node_reports_of_itself(resource: str) -> None:
    ready = msgspec.Raw(b'{"conditions":[{"type":"Ready","status":"True"}]}')
    report = a_report(resource=resource, namespace="", name="n1", uid="n-uid", status=ready)
    assert subject_of(report) == ObjectKey("nodes", "", "n1")
    assert isinstance(check("n1", report, the_node(), None), Write)
    other = check("n2", report, the_node(), None)
    assert isinstance(other, Refuse)
    assert isinstance(other.error, Forbidden)


def test_the_generation_it_saw_is_kept_beside_the_status() -> None:
    found = check("n1", a_report(status=msgspec.Raw(b'{"observedGeneration":4}')), pod_on("n1"), None)
    assert isinstance(found, Write)
    assert decode_observed(found.value).observed_generation == 4
