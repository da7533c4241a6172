"""Events: what an object's event looks like, and how one told again counts."""

from typing import Any

import pytest

from shoal.names import ObjectKey
from shoal.store.events import COMBINED, MESSAGE_MAX, make, note, place, succeeding

KEY = ObjectKey("pods", "default", "web")


def an_event(uid: str = "u1", *, first: str = "10:00", last: str = "10:00", count: int = 1, message: str = "m") -> Any:
    return make(
        KEY, uid, "Normal", "BackOff", message, reporter="node-agent", host="n1", first=first, last=last, count=count
    )


def test_an_event_is_what_kubernetes_makes_of_it() -> None:
    event = an_event(message="x" * 5000)
    assert (event.involved_object.kind, event.involved_object.api_version, event.metadata.namespace) == (
        "Pod",
        "v1",
        "default",
    )
    assert event.metadata.name.startswith("web.")
    assert len(event.message) == MESSAGE_MAX
    assert an_event().metadata.name == an_event(last="11:00").metadata.name != an_event("u2").metadata.name
    of_a_node = make(ObjectKey("nodes", "", "n1"), "u", "Odd", "R", "m", reporter="x", first="", last="")
    assert (of_a_node.metadata.namespace, of_a_node.involved_object.namespace, of_a_node.type) == (
        "default",
        "",
        "Normal",
    )


@pytest.mark.parametrize(
    ("event", "count", "first"),
    [
        (an_event(first="10:05", last="10:05"), 4, "10:00"),  # told anew: one more
        (an_event(first="10:05", last="10:06", count=2), 5, "10:00"),
        (an_event(first="10:00", last="10:06", count=9), 9, "10:00"),  # who tells it counts itself
        (an_event(first="10:00", last="10:00", message="n"), 4, "10:00"),  # another in the same second
        (an_event(last="10:02"), 3, "10:00"),  # the very same, told again
        (an_event("u2", first="10:05", last="10:05"), 1, "10:05"),  # of a successor
    ],
)
def test_what_is_told_again_is_counted(event: Any, count: int, first: str) -> None:
    found = succeeding(an_event(last="10:02", count=3), event)
    assert (found.count, found.first_timestamp, found.last_timestamp) == (count, first, event.last_timestamp)


def test_the_first_is_as_it_is() -> None:
    assert succeeding(None, an_event()) == an_event()


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("pulled in 1.234s", "pulled in 12.3s", True),
        ("container 4fa0bb91e2c3 died", "container 00aa91e2c3ff died", True),
        ("of pod 6ba7b810-9dad-11d1-80b4-00c04fd430c8", "of pod ffffffff-ffff-ffff-ffff-ffffffffffff", True),
        ("0/3 nodes are available", "1/4 nodes are available", True),
        ("Failed to pull image", "Error: ErrImagePull", False),
        ('image "web"', 'image "store"', False),
    ],
)
def test_numbers_and_ids_make_no_other_event(one: str, another: str, same: bool) -> None:
    assert (note("", one) == note("", another)) is same
    assert (an_event(message=one).metadata.name == an_event(message=another).metadata.name) is same
    assert note("spec.containers{a}", one) != note("spec.containers{b}", one)


def test_what_is_one_too_many_shares_an_event() -> None:
    told = {note("", word) for word in "ghijklmnop"}
    assert place(told, KEY, an_event(message="g"))[1].message == "g"
    (one, combined), (another, too) = (place(told, KEY, an_event(message=m)) for m in ("q", "r"))
    assert one == another == COMBINED
    assert combined.message == "(combined from similar events): q"
    assert combined.metadata.name == too.metadata.name
    assert place(told - {note("", "g")}, KEY, an_event(message="q"))[0] == note("", "q")
    assert len(place(told, KEY, an_event(message="x" * 5000))[1].message) == MESSAGE_MAX
