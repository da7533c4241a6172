"""What a node's proxy says of its network is a condition of the node."""

import msgspec

from shoal.model.meta import ObjectMeta
from shoal.model.node import Node
from shoal.model.registry import encode
from shoal.names import RESOURCE_NODE_NETWORKS, ObjectKey, desired, observed
from shoal.store.records import Entry, Synced
from shoal.store.stored import Observed
from shoal.store.view import View

NODE = ObjectKey("nodes", "", "n1")
NETWORK = ObjectKey(RESOURCE_NODE_NETWORKS, "", "n1")
RECORD = Entry(desired(NODE), encode(Node(metadata=ObjectMeta(name="n1", uid="u1"))), 1)


def said(key: ObjectKey, revision: int, kind: str, value: str, uid: str = "u1") -> Entry:
    status = msgspec.Raw(msgspec.json.encode({"conditions": [{"type": kind, "status": value}]}))
    return Entry(observed("n1", key), msgspec.json.encode(Observed(uid=uid, status=status)), revision)


def conditions(node: Node | None) -> dict[str, str]:
    assert node is not None
    return {c.type: c.status for c in node.status.conditions}


def shown(view: View) -> tuple[dict[str, str], int]:
    stored = view.get(NODE, Node)
    assert stored is not None
    assert stored.object.metadata.resource_version == str(stored.version)
    assert set(stored.observed) <= {"n1"}
    return conditions(stored.object), stored.version


def test_it_joins_the_agents_and_touches_the_node() -> None:
    view = View()
    view.apply(RECORD)
    view.apply(said(NODE, 2, "Ready", "True"))
    assert view.apply(said(NETWORK, 3, "NetworkUnavailable", "True")) == [NETWORK, NODE]
    before = view.before(NODE)
    assert before is not None
    assert conditions(before.object) == {"Ready": "True"}
    assert shown(view) == ({"Ready": "True", "NetworkUnavailable": "True"}, 3)
    view.apply(said(NETWORK, 4, "NetworkUnavailable", "False"))
    assert shown(view) == ({"Ready": "True", "NetworkUnavailable": "False"}, 4)


def test_it_counts_without_a_word_of_the_agent_and_before_the_node_came() -> None:
    view = View()
    assert view.apply(said(NETWORK, 1, "NetworkUnavailable", "True")) == [NETWORK]
    view.apply(Entry(RECORD.key, RECORD.value, 2))
    assert shown(view) == ({"NetworkUnavailable": "True"}, 2)


def test_of_a_former_node_it_counts_nothing() -> None:
    view = View()
    view.apply(RECORD)
    view.apply(said(NETWORK, 2, "NetworkUnavailable", "True", uid="former"))
    assert shown(view) == ({}, 1)


def test_it_goes_with_its_record() -> None:
    for gone in (
        lambda key: Entry(key, None, 4),
        lambda key: Synced(revision=4, gone=(key,)),
    ):
        view = View()
        view.apply(RECORD)
        view.apply(said(NETWORK, 3, "NetworkUnavailable", "True"))
        assert view.apply(gone(observed("n1", NETWORK))) == [NETWORK, NODE]
        assert shown(view) == ({}, 1)
