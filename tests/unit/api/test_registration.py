"""Registration: who becomes a node, and with which range."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.api.objects import NOW, with_metadata

from shoal.api.registration import AVOID_MAX, Registered, ranges, register
from shoal.errors import AlreadyExists, Conflict, Forbidden, Invalid, Refused
from shoal.model.node import Node
from shoal.names import HOST_NETWORKS
from shoal.wire import RegisterRequest

SMALL = ranges("10.208.0.0/21", 23)  # four ranges


def joined(
    name: str = "n1", *, host: str = "h1", existing: Node | None = None, others: Sequence[Node] = (),
    claimed: Sequence[str] = (), avoid: Sequence[str] = (), labels: dict[str, str] | None = None, of: Any = SMALL,
) -> Registered:  # fmt: skip
    request = RegisterRequest(host_uid=host, labels=labels or {}, avoid=list(avoid))
    return register(name, request, existing=existing, others=others, claimed=claimed, of=of, uid="u1", now=NOW)


def test_the_first_node_gets_the_first_range_and_a_claim_on_it() -> None:
    found = joined()
    assert (found.node.spec.pod_cidr, found.node.spec.pod_cidrs, found.claim) == (
        "10.208.0.0/23", ("10.208.0.0/23",), "10.208.0.0/23",
    )  # fmt: skip
    assert (found.node.metadata.uid, found.node.metadata.creation_timestamp) == ("u1", NOW)


@pytest.mark.parametrize(
    ("claimed", "avoid", "cidr"),
    [
        (["10.208.0.0/23"], [], "10.208.2.0/23"),
        (["10.208.0.0/23", "10.208.4.0/23"], ["10.208.2.0/24"], "10.208.6.0/23"),
        ([], ["10.208.1.255/32"], "10.208.2.0/23"),  # an address of the host's own
        ([], ["10.208.0.0/22"], "10.208.4.0/23"),
        ([], ["0.0.0.0/0"], "10.208.0.0/23"),  # a default route says nothing
        ([], ["fd00::/8", "192.168.0.0/16"], "10.208.0.0/23"),
        (["10.208.0.0/24"], [], "10.208.2.0/23"),  # claimed under another mask
    ],
)
def test_a_range_overlaps_nothing(claimed: list[str], avoid: list[str], cidr: str) -> None:
    assert joined(claimed=claimed, avoid=avoid).node.spec.pod_cidr == cidr


def test_what_one_host_uses_is_given_to_no_other() -> None:
    first = joined(avoid=["10.208.2.0/24"])
    second = joined("n2", host="h2", others=[first.node], claimed=[first.claim])
    assert second.claim == "10.208.4.0/23"


@pytest.mark.parametrize(
    ("claimed", "avoid", "says"),
    [
        (["10.208.0.0/23", "10.208.2.0/23", "10.208.4.0/23", "10.208.6.0/23"], [], "of the 4 in 10.208.0.0/21"),
        ([], ["10.0.0.0/8"], "lies in 10.0.0.0/8"),
        (["10.208.0.0/23"], ["10.208.2.0/23", "10.208.4.0/22"], "this host already uses 10.208.2.0/23"),
    ],
)
def test_a_full_cluster_says_what_stands_in_the_way(claimed: list[str], avoid: list[str], says: str) -> None:
    with pytest.raises(Refused, match=says):
        joined(claimed=claimed, avoid=avoid)


def test_a_host_that_hides_another_nodes_pods_is_refused_by_name() -> None:
    first = joined()
    with pytest.raises(Refused, match=r"already uses 10\.208\.0\.0/24, which overlaps .* the pod range of node n1"):
        joined("n2", host="h2", others=[first.node], claimed=[first.claim], avoid=["10.208.0.0/24"])


def test_a_route_that_a_proxy_left_behind_is_no_network_of_the_hosts() -> None:
    first = joined()
    second = joined("n2", host="h2", others=[first.node], claimed=[first.claim], avoid=[first.claim])
    assert second.claim == "10.208.2.0/23"


# --- again ---


def test_the_same_host_again_keeps_its_range_and_writes_nothing() -> None:
    first = joined(labels={"kubernetes.io/os": "linux"})
    again = joined(existing=first.node, labels={"kubernetes.io/os": "linux"}, avoid=["10.208.0.0/23"])
    assert (again.node, again.claim, again.changed) == (first.node, "", False)


def annotated(found: Registered) -> str:
    return found.node.metadata.annotations.get(HOST_NETWORKS, "")


def test_what_a_host_uses_by_now_is_remembered_and_what_it_uses_no_more_forgotten() -> None:
    first = joined(avoid=["10.208.2.0/24"])
    again = joined(existing=first.node, claimed=[first.claim], avoid=["10.208.4.0/24", "192.168.0.0/16"])
    assert (again.changed, annotated(again), again.hidden) == (True, "10.208.4.0/24", ())
    assert again.node.spec == first.node.spec
    later = joined("n2", host="h2", others=[again.node], claimed=[first.claim])
    assert later.claim == "10.208.2.0/23"
    assert joined("n3", host="h3", others=[again.node], claimed=[first.claim, later.claim]).claim == "10.208.6.0/23"

    gone = joined(existing=again.node)
    assert (gone.changed, HOST_NETWORKS in gone.node.metadata.annotations) == (True, False)


def test_a_host_that_hides_pods_by_now_stays_and_says_whose() -> None:
    first = joined()
    second = joined("n2", host="h2", others=[first.node], claimed=[first.claim])
    claimed = [first.claim, second.claim]
    routes = [first.claim, second.claim]  # its own bridge's, and a proxy's: no network of the host's
    quiet = joined(existing=first.node, others=[first.node, second.node], claimed=claimed, avoid=routes)
    assert (quiet.changed, quiet.hidden) == (False, ())

    avoid = [*routes, "10.208.1.0/24", "10.208.0.0/21"]
    loud = joined(existing=first.node, others=[first.node, second.node], claimed=claimed, avoid=avoid)
    own, theirs = loud.hidden
    assert "10.208.0.0/21, 10.208.1.0/24 by now, which overlaps 10.208.0.0/23, the range of its own pods" in own
    assert "10.208.0.0/21 by now, which overlaps 10.208.2.0/23, the range of the pods of node n2" in theirs
    assert loud.node.spec == first.node.spec
    assert annotated(loud) == "10.208.0.0/21,10.208.1.0/24"


def test_a_host_with_more_networks_than_are_remembered_may_still_come_back() -> None:
    wide = ranges("10.208.0.0/12", 23)
    many = [f"10.210.{i // 64}.{i % 64 * 4}/30" for i in range(AVOID_MAX + 44)]
    with pytest.raises(Invalid, match="300 networks"):
        joined(avoid=many, of=wide)
    again = joined(existing=joined(of=wide).node, avoid=many, of=wide)
    assert len(annotated(again).split(",")) == AVOID_MAX


def test_labels_follow_the_host_and_peoples_labels_stay() -> None:
    first = with_metadata(
        joined(labels={"kubernetes.io/arch": "arm64"}).node, labels={"kubernetes.io/arch": "arm64", "disk": "ssd"}
    )
    again = joined(existing=first, labels={"kubernetes.io/arch": "amd64"})
    assert again.changed
    assert again.node.metadata.labels == {"kubernetes.io/arch": "amd64", "disk": "ssd"}


def test_another_host_of_that_name_is_refused() -> None:
    with pytest.raises(AlreadyExists, match="another host is registered as node n1"):
        joined(existing=joined().node, host="h2")


def test_a_node_that_is_being_removed_may_come_back_later() -> None:
    with pytest.raises(Conflict):
        joined(existing=with_metadata(joined().node, deletion_timestamp=NOW))


# --- what is refused ---


@pytest.mark.parametrize("name", ["", "N1", "*", ">", "a b", "n1.", "-a", "a=2Eb", "a" * 254, "_"])
def test_a_name_that_is_no_dns_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        joined(name)


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ({"node-role.kubernetes.io/control-plane": ""}, Forbidden),
        ({"disk": "ssd"}, Forbidden),
        ({"kubernetes.io/hostname": "a b"}, Invalid),
        ({"kubernetes.io/hostname": "n1"}, None),
    ],
)
def test_a_node_labels_itself_with_what_it_is_and_no_more(
    labels: dict[str, str], error: type[Exception] | None
) -> None:
    if error is None:
        assert joined(labels=labels).node.metadata.labels == labels
    else:
        with pytest.raises(error):
            joined(labels=labels)


def test_a_host_with_many_routes_elsewhere_is_welcome() -> None:
    found = joined(avoid=[f"172.16.{i}.0/24" for i in range(256)] + [f"192.168.{i}.0/24" for i in range(256)])
    assert HOST_NETWORKS not in found.node.metadata.annotations


@pytest.mark.parametrize("host", ["", "x" * 129])
def test_a_host_has_a_uid(host: str) -> None:
    with pytest.raises(Invalid):
        joined(host=host)


def test_nonsense_to_avoid_is_refused_and_nonsense_remembered_is_ignored() -> None:
    with pytest.raises(Invalid, match="no network"):
        joined(avoid=["tuesday"])
    with pytest.raises(Invalid, match="256 at most"):
        joined(avoid=[f"10.208.{i // 128}.{i % 128}" for i in range(257)])
    edited = with_metadata(joined().node, annotations={HOST_NETWORKS: "tuesday,10.208.2.0/23"})
    assert joined("n2", host="h2", others=[edited], claimed=["10.208.0.0/23"]).claim == "10.208.4.0/23"


@pytest.mark.parametrize(
    ("cidr", "mask"),
    [("tuesday", 23), ("fd00::/8", 64), ("10.208.0.0/12", 8), ("10.208.0.0/12", 31), ("10.208.0.1/12", 23)],
)
def test_a_cluster_range_must_be_one(cidr: str, mask: int) -> None:
    with pytest.raises(Invalid):
        ranges(cidr, mask)


@given(
    st.lists(st.tuples(st.integers(0, 2**11 - 1), st.integers(21, 32)), max_size=4),
    st.integers(1, 6),
)
def test_whoever_joins_overlaps_nobody(used: list[tuple[int, int]], count: int) -> None:
    """Nodes join one after the other, each with networks of its own; whoever is taken in is apart from all."""
    avoid = [
        str(ip_network((int(ip_network("10.208.0.0/21").network_address) + at, length), strict=False))
        for at, length in used
    ]
    nodes: list[Node] = []
    claimed: list[str] = []
    for i in range(count):
        try:
            found = joined(f"n{i}", host=f"h{i}", others=nodes, claimed=claimed, avoid=avoid if i % 2 else ())
        except Refused:
            continue
        nodes.append(found.node)
        claimed.append(found.claim)
    cidrs = [ip_network(c) for c in claimed]
    assert all(not a.overlaps(b) for i, a in enumerate(cidrs) for b in cidrs[:i])
    assert all(c.subnet_of(ip_network("10.208.0.0/21")) for c in cidrs)  # type: ignore[arg-type]
    for i, node in enumerate(nodes):
        if HOST_NETWORKS in node.metadata.annotations:
            mine = [ip_network(a) for a in avoid if ip_network(a) not in cidrs[:i]]
            assert all(not c.overlaps(m) for c in cidrs for m in mine)
