"""The view: what the watch delivers becomes objects by the rules of merging, whatever the order it comes in."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shoal.model.meta import Condition, ObjectMeta, OwnerReference
from shoal.model.pod import Pod, PodSpec, PodStatus
from shoal.model.registry import encode
from shoal.model.replicaset import ReplicaSet
from shoal.names import ObjectKey, bound, desired, observed
from shoal.store.records import Entry, Synced
from shoal.store.stored import Observed
from shoal.store.view import View

WEB = ObjectKey("pods", "default", "web-0")


def a_pod(*, uid: str = "u1", node: str = "", owner: str = "") -> Pod:
    owners = (OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web", uid=owner),) if owner else ()
    return Pod(
        metadata=ObjectMeta(name="web-0", namespace="default", uid=uid, owner_references=owners),
        spec=PodSpec(node_name=node),
    )


def put_pod(revision: int, **how: Any) -> Entry:
    return Entry(desired(WEB), encode(a_pod(**how)), revision, "00-trace")


def seen(revision: int, writer: str, *, uid: str = "u1", status: PodStatus | None = None, gone: bool = False) -> Entry:
    raw = msgspec.Raw(msgspec.json.encode(status or PodStatus()))
    return Entry(observed(writer, WEB), msgspec.json.encode(Observed(uid=uid, status=raw, gone=gone)), revision)


def a_view(*events: Entry | Synced) -> View:
    view = View()
    for event in events:
        view.apply(event)
    return view


def condition(kind: str, status: str) -> Condition:
    return Condition(type=kind, status=status)


def test_a_node_s_word_wins_field_by_field_and_conditions_are_united() -> None:
    ours = PodStatus(phase="Pending", message="from the control plane", conditions=(condition("PodScheduled", "True"),))
    theirs = PodStatus(phase="Running", pod_ip="10.0.0.1", conditions=(condition("Ready", "True"),))
    view = a_view(put_pod(3, node="n1"), seen(4, "_", status=ours), seen(9, "n1", status=theirs))

    stored = view.get(WEB, Pod)

    assert stored is not None
    status = stored.object.status
    assert (status.phase, status.pod_ip, status.message) == ("Running", "10.0.0.1", "from the control plane")
    assert [c.type for c in status.conditions] == ["PodScheduled", "Ready"]
    assert (stored.revision, stored.version, stored.object.metadata.resource_version) == (3, 9, "9")
    assert stored.traceparent == "00-trace"


def test_a_status_for_another_uid_or_of_another_node_does_not_count() -> None:
    view = a_view(
        put_pod(3, node="n1"),
        seen(4, "_", uid="older", status=PodStatus(phase="Failed")),
        seen(5, "n2", status=PodStatus(phase="Failed")),
    )

    stored = view.get(WEB, Pod)

    assert stored is not None
    assert stored.object.status.phase == ""
    assert set(stored.observed) == {"n2"}
    assert set(view.observed_entries(WEB)) == {"_", "n2"}


def test_a_copy_makes_no_object_and_counts_for_no_revision() -> None:
    view = a_view(put_pod(3), Entry(bound("n1", WEB), b"{}", 7), Entry(desired(WEB), None, 8))

    assert view.get(WEB) is None
    assert set(view.bound_entries(WEB)) == {"n1"}
    assert view.known() == [WEB]


def test_what_is_left_behind_is_known_until_it_goes() -> None:
    shared_key = ObjectKey("podranges", "", "n1")
    view = a_view(Entry("shared.podranges._.n1", b"{}", 1), Entry("system.leaders.x", b"", 2), seen(3, "n1"))
    assert view.known() == [shared_key, WEB]

    assert view.apply(Entry("shared.podranges._.n1", None, 4)) == [shared_key]
    assert view.apply(Entry("system.leaders.x", None, 5)) == []
    assert view.known() == [WEB]


def test_an_owner_is_found_and_forgotten() -> None:
    view = a_view(put_pod(1, owner="rs1"))
    assert [s.key for s in view.by_owner("rs1")] == [WEB]

    view.apply(put_pod(2, owner="rs2"))

    assert view.by_owner("rs1") == []
    assert [s.key for s in view.by_owner("rs2", Pod)] == [WEB]
    assert view.by_owner("rs2", ReplicaSet) == []


def test_before_is_the_object_that_the_last_event_changed() -> None:
    view = a_view(put_pod(1, owner="rs1"))

    view.apply(Entry(desired(WEB), None, 2))

    last = view.before(WEB)
    assert last is not None
    assert last.object.metadata.owner_references[0].uid == "rs1"
    assert view.get(WEB) is None
    view.apply(Entry("system.fence.x", b"", 3))
    assert view.before(WEB) is None


def test_a_list_that_begins_anew_is_not_acted_on_until_it_is_whole() -> None:
    view = a_view(put_pod(5), Synced(5))
    assert view.synced

    touched = view.apply(put_pod(5))
    assert (touched, view.synced) == ([], False)

    assert view.apply(Synced(9, gone=(desired(WEB),))) == [WEB]
    assert view.synced
    assert view.get(WEB) is None
    assert view.known() == []


def test_the_latest_delivered_wins_even_if_its_revision_is_lower() -> None:
    view = a_view(put_pod(50, node="n1"), put_pod(7, node="n2"))

    assert [s.revision for s in view.on_node("n2")] == [7]
    assert view.on_node("n1") == []


def test_what_cannot_be_read_is_named_and_yields_no_object() -> None:
    view = a_view(Entry(desired(WEB), b'{"metadata": 7}', 1), Entry("desired.widgets.default.w", b"{}", 2))

    assert view.get(WEB) is None
    assert view.get(ObjectKey("widgets", "default", "w")) is None
    assert WEB in view.unreadable
    assert view.keys_in("default") == [WEB, ObjectKey("widgets", "default", "w")]


events = st.one_of(
    st.builds(lambda node, owner, uid: ("desired", node, owner, uid), *[st.sampled_from(["", "a", "b"])] * 3),
    st.builds(
        lambda writer, uid: ("observed", writer, "", uid), st.sampled_from(["_", "a", "b"]), st.sampled_from("ab")
    ),
    st.builds(lambda writer: ("bound", writer, "", ""), st.sampled_from("ab")),
)


@given(st.lists(st.tuples(events, st.booleans()), max_size=30), st.data())
def test_what_a_view_answers_depends_on_the_last_entries_alone(steps: list[Any], data: st.DataObject) -> None:
    """Asking between events, in any way, changes nothing; indices agree with a view built from the last entries."""
    view, last = View(), dict[str, Entry]()
    for revision, ((part, who, owner, uid), erased) in enumerate(steps, start=1):
        if part == "desired":
            made = put_pod(revision, node=who, owner=owner, uid=uid)
        elif part == "observed":
            made = seen(revision, who, uid=uid, status=PodStatus(phase="Running", message=who))
        else:
            made = Entry(bound(who, WEB), b"{}", revision)
        entry = Entry(made.key, None, revision) if erased else made
        if data.draw(st.booleans()):
            view.by_owner("a"), view.get(WEB), view.before(WEB)
        view.apply(entry)
        if erased:
            last.pop(entry.key, None)
        else:
            last[entry.key] = entry
    fresh = a_view(*sorted(last.values(), key=lambda e: e.revision))

    assert _answers(view) == _answers(fresh)


def _answers(view: View) -> Any:
    stored = view.get(WEB)
    return (
        stored and (stored.revision, stored.object, sorted(stored.observed)),
        [[s.key for s in view.by_owner(o)] for o in "ab"],
        [[s.key for s in view.on_node(n)] for n in "ab"],
        [view.key_by_uid(u) for u in ("", "a", "b")],
        view.known(),
        view.keys_in("default"),
        sorted(view.bound_entries(WEB)),
    )
