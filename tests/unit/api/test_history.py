"""The ring of changes against a plain list, selectors against what a watcher may see, and pages of a list."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.api.history import ADDED, DELETED, MODIFIED, Change, Facts, History, type_for
from shoal.api.paging import page, read_token, write_token
from shoal.api.present import selection, shown
from shoal.errors import BadRequest, Expired
from shoal.model.meta import ObjectMeta
from shoal.model.namespace import Namespace
from shoal.model.pod import Pod, PodStatus
from shoal.model.registry import by_resource
from shoal.names import ObjectKey

KEY = ObjectKey("pods", "default", "web")


def facts(app: str = "web", **fields: str) -> Facts:
    return Facts({"app": app}, {"metadata.name": "web", "status.phase": "Running"} | fields)


def change(revision: int, before: Facts | None = None, after: Facts | None = None, size: int = 10) -> Change:
    return Change(revision, KEY, before, after, b"x" * size)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, facts(), ADDED),
        (facts(), facts(), MODIFIED),
        (facts(), None, DELETED),
        (facts("db"), facts(), ADDED),  # it entered the selector
        (facts(), facts("db"), DELETED),  # it left
        (facts("db"), facts("db"), ""),
        (None, facts("db"), ""),
        (facts("db"), None, ""),
    ],
)
def test_a_selector_decides_what_a_change_is(before: Facts | None, after: Facts | None, told: str) -> None:
    wanted = selection(by_resource("pods"), "default", labels="app=web")
    assert type_for(change(5, before, after), wanted.selects) == told


@pytest.mark.parametrize(
    ("namespace", "name", "labels", "fields", "takes"),
    [
        ("default", "", "", "", True),
        ("", "web", "", "", True),
        ("other", "", "", "", False),
        ("", "db", "", "", False),
        ("", "", "app in (web, db)", "status.phase=Running", True),
        ("", "", "app!=web", "", False),
        ("", "", "", "status.phase!=Running", False),
        ("", "", "", "metadata.name=web,status.phase==Running", True),
    ],
)
def test_selection(namespace: str, name: str, labels: str, fields: str, takes: bool) -> None:
    wanted = selection(by_resource("pods"), namespace, name, labels, fields)
    assert wanted.selects(KEY, facts()) is takes


def test_only_what_can_be_selected_by_is() -> None:
    with pytest.raises(BadRequest, match="field label not supported"):
        selection(by_resource("pods"), "", fields="spec.containers=x")


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=60), st.integers(1, 20), st.integers(20, 200)
)
def test_whoever_is_answered_misses_nothing(steps: list[tuple[int, int]], most: int, size: int) -> None:
    history = History(changes=most, size=size)
    history.begin(100)
    revision, told = 100, []
    for step, length in steps:
        revision += step
        if step:
            told.append(change(revision, None, facts(), length))
            history.record(told[-1])
        history.reach(revision)
    for since in range(95, revision + 2):
        expected = [c for c in told if c.revision > since]
        try:
            assert list(history.since(since)) == expected
        except Expired:
            assert since < history.floor
            assert since < 100 or len(expected) > 0
    assert history.last == revision


def test_a_stream_that_began_anew_ends_every_watch() -> None:
    history = History()
    history.begin(100)
    history.record(change(101, None, facts()))
    history.begin(4_000_000_000)
    with pytest.raises(Expired):
        history.since(101)
    assert list(history.since(4_000_000_000)) == []


def test_what_nobody_has_seen_yet_is_pending() -> None:
    pod = shown("pods", Pod(metadata=ObjectMeta(name="web")))
    assert isinstance(pod, Pod)
    assert pod.status.phase == "Pending"
    assert pod.status.qos_class == "BestEffort"
    unread = shown("pods", Pod(status=PodStatus(phase="Running")))
    assert isinstance(unread, Pod)
    assert (unread.status.phase, unread.status.qos_class) == ("Running", "BestEffort")
    seen = Pod(status=PodStatus(phase="Running", qos_class="Burstable"))
    assert shown("pods", seen) is seen


@pytest.mark.parametrize(("deleted", "phase"), [(None, "Active"), ("2026-11-24T10:00:00Z", "Terminating")])
def test_a_namespace_is_active_until_it_is_deleted(deleted: str | None, phase: str) -> None:
    namespace = shown("namespaces", Namespace(metadata=ObjectMeta(name="dev", deletion_timestamp=deleted)))
    assert isinstance(namespace, Namespace)
    assert namespace.status.phase == phase


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(0, 7), st.integers(1, 120))
def test_pages_together_are_the_list(sizes: list[int], limit: int, room: int) -> None:
    found = [(f"{i:03d}", b"x" * size) for i, size in enumerate(sizes)]
    after, collected, pages = "", [], 0
    while True:
        one = page([f for f in found if f[0] > after], limit, room)
        pages += 1
        collected += one.bodies
        assert len(one.bodies) == 1 or sum(len(b) + 1 for b in one.bodies) <= room
        assert not limit or len(one.bodies) <= limit
        if not one.more:
            break
        token = read_token(write_token(7, one.last))
        assert token is not None
        after = token.after
    assert collected == [b for _, b in found]
    assert pages <= max(1, len(found))


@pytest.mark.parametrize("text", ["x", "!!!", "e30=", write_token(1, "a")[:-4]])
def test_a_token_of_nobodys_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        read_token(text)


def test_no_token_is_the_first_page() -> None:
    assert read_token("") is None
    assert msgspec.json.encode(page([], 0, 10).bodies) == b"[]"
