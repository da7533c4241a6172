"""How a node becomes known: its record, its pod range, the labels it may set. Pure.

A range is unique by its claim (`system.claims.podranges.<cidr>`), created in the batch that creates the node: two
apis that choose the same one collide there, and the loser chooses again. What a host already routes, owns or resolves by
(`avoid`) is kept out of its own range, and remembered with the node, so that no later node gets a range which
this host could not reach. A node that registers again is never refused for it, pods run there: what its host uses by now
is remembered, and what it hides is told.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Network, ip_network

import msgspec

from shoal.errors import AlreadyExists, Conflict, Forbidden, Invalid, Refused
from shoal.model.meta import ObjectMeta
from shoal.model.node import Node, NodeSpec
from shoal.names import HOST_NETWORKS, HOST_UID, NODE_LABELS, RESOURCE_POD_RANGES
from shoal.wire import RegisterRequest

CLAIM_SPACE = RESOURCE_POD_RANGES
AVOID_MAX = 256

_NODE_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")


class Ranges(msgspec.Struct, frozen=True):
    """Where pod ranges are cut from: `cluster` into pieces of prefix length `mask`."""

    cluster: IPv4Network
    mask: int


class Registered(msgspec.Struct, frozen=True):
    """What to do: `node` is the record to write, `claim` a range to claim with it ("" = the node has one).

    `changed` False: the node is known and nothing differs, nothing is written. `hidden`: sentences about pods that the
    node's host cannot reach any more, because it uses their addresses otherwise by now.
    """

    node: Node
    claim: str = ""
    changed: bool = True
    hidden: tuple[str, ...] = ()


def ranges(cluster: str, mask: int) -> Ranges:
    """Raises: Invalid for what is no IPv4 network, or a mask that cuts no piece out of it."""
    try:
        network = ip_network(cluster)
    except ValueError as error:
        raise Invalid(f"{cluster!r} is no network: {error}", path="SHOAL_CLUSTER_CIDR") from None
    if not isinstance(network, IPv4Network):
        raise Invalid(f"{cluster} is not an IPv4 network", path="SHOAL_CLUSTER_CIDR")
    if not network.prefixlen <= mask <= 30:
        raise Invalid(f"a node mask of /{mask} does not fit {cluster}", path="SHOAL_NODE_MASK")
    return Ranges(network, mask)


def register(
    name: str,
    request: RegisterRequest,
    *,
    existing: Node | None,
    others: Iterable[Node],
    claimed: Collection[str],
    of: Ranges,
    uid: str,
    now: str,
) -> Registered:
    """`claimed`: every range that has a claim, resting ones too. `others`: the nodes there are.

    Raises: Refused with the sentence that the node's operator reads; Conflict while a node of that name is being removed.
    """
    check_name(name)
    labels = _own_labels(name, request.labels)
    if existing is not None:
        return _again(name, request, existing, labels, others=others, claimed=claimed, of=of)
    if not request.host_uid or len(request.host_uid) > 128:
        raise Invalid("a host's uid has 1 to 128 characters", path="hostUid")
    avoid = _networks(request.avoid, of)
    if len(avoid) > AVOID_MAX:
        raise Invalid(
            f"this host already uses {len(avoid)} networks in {of.cluster}; {AVOID_MAX} at most",
            path="avoid",
            hint="choose another cluster range",
        )
    cidr = _choose(avoid, tuple(others), claimed, of)
    annotations = _remembering({HOST_UID: request.host_uid}, avoid)
    node = Node(
        metadata=ObjectMeta(
            name=name, uid=uid, creation_timestamp=now, generation=1, labels=labels, annotations=annotations
        ),
        spec=NodeSpec(pod_cidr=cidr, pod_cidrs=(cidr,)),
    )
    return Registered(node, claim=cidr)


def _again(
    name: str,
    request: RegisterRequest,
    existing: Node,
    labels: Mapping[str, str],
    *,
    others: Iterable[Node],
    claimed: Collection[str],
    of: Ranges,
) -> Registered:
    if existing.metadata.annotations.get(HOST_UID) != request.host_uid:
        raise AlreadyExists(
            f"another host is registered as node {name}", hint="give this one another name, or delete that node first"
        )
    if existing.metadata.deletion_timestamp is not None:
        raise Conflict(f"node {name} is being removed")
    ours = {ip_network(cidr) for cidr in (*claimed, existing.spec.pod_cidr) if cidr}
    avoid = [network for network in _networks(request.avoid, of) if network not in ours]  # a bridge's, a proxy's route
    metadata = msgspec.structs.replace(
        existing.metadata,
        labels={**existing.metadata.labels, **labels},
        annotations=_remembering(existing.metadata.annotations, avoid[:AVOID_MAX]),
    )
    return Registered(
        msgspec.structs.replace(existing, metadata=metadata),
        changed=metadata != existing.metadata,
        hidden=tuple(_hidden(avoid, existing, others)),
    )


def _remembering(annotations: Mapping[str, str], avoid: Collection[IPv4Network]) -> dict[str, str]:
    others = {key: value for key, value in annotations.items() if key != HOST_NETWORKS}
    return others | ({HOST_NETWORKS: ",".join(map(str, avoid))} if avoid else {})


def _hidden(avoid: Collection[IPv4Network], own: Node, others: Iterable[Node]) -> Iterable[str]:
    for node in (own, *(o for o in others if o.metadata.name != own.metadata.name)):
        if not node.spec.pod_cidr:
            continue
        pods = ip_network(node.spec.pod_cidr)
        if not (used := [network for network in avoid if network.overlaps(pods)]):
            continue
        whose = "its own pods" if node is own else f"the pods of node {node.metadata.name}"
        yield (
            f"this host uses {', '.join(map(str, used[:3]))}{', ...' if len(used) > 3 else ''} by now, which overlaps {pods}, "
            f"the range of {whose}: it may not reach them. Remove that network, or delete the node and register it again"
        )


def check_name(name: str) -> None:
    """Raises: Invalid unless it is a lower-case DNS name: it becomes a token of subjects, keys and consumers."""
    if len(name) > 253 or not _NODE_NAME.match(name):
        raise Invalid(f"{name[:253]!r} cannot be a node's name: lower-case letters, digits, '-' and '.', 253 at most")


def _own_labels(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    for key, value in labels.items():
        if key not in NODE_LABELS:
            raise Forbidden(f"node {name} may not set the label {key} itself", path=f"labels[{key}]")
        if not _LABEL_VALUE.match(value):
            raise Invalid(f"{value[:80]!r} is no label value", path=f"labels[{key}]")
    return dict(labels)


def _networks(texts: Collection[str], of: Ranges) -> tuple[IPv4Network, ...]:
    """Of what a host named, what lies in the cluster's range. A default route lies everywhere and says nothing."""
    found: set[IPv4Network] = set()
    for text in texts:
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            raise Invalid(f"{text[:64]!r} is no network", path="avoid") from None
        if isinstance(network, IPv4Network) and network.prefixlen > 0 and network.overlaps(of.cluster):
            found.add(network)
    return tuple(sorted(found))


def _choose(avoid: Collection[IPv4Network], others: Collection[Node], claimed: Collection[str], of: Ranges) -> str:
    """The lowest free range. Raises: Refused with what stands in the way."""
    taken = {ip_network(c) for c in claimed}
    _reaches_all(avoid, others, taken)
    elsewhere = {n for node in others for n in known_networks(node)}
    blocked = {*avoid, *elsewhere}
    for candidate in of.cluster.subnets(new_prefix=of.mask):
        if candidate in taken:
            continue
        if any(candidate.overlaps(b) for b in blocked) or any(candidate.overlaps(t) for t in taken):
            continue
        return str(candidate)
    raise Refused(_exhausted(avoid, taken, of))


def _reaches_all(avoid: Collection[IPv4Network], others: Collection[Node], taken: Collection[object]) -> None:
    """A host whose own network hides another node's pods is refused: packets to them would stay with the host."""
    for node in others:
        if not node.spec.pod_cidr:
            continue
        theirs = ip_network(node.spec.pod_cidr)
        for network in avoid:
            if network in taken:  # a route that a proxy made for exactly this range
                continue
            if theirs.overlaps(network):
                raise Refused(
                    f"this host already uses {network}, which overlaps {theirs}, the pod range of node "
                    f"{node.metadata.name}",
                    path="avoid",
                    hint="choose another cluster range",
                )


def known_networks(node: Node) -> tuple[IPv4Network, ...]:
    """What a node's host said it uses itself. Total: an annotation that was edited into nonsense counts as none."""
    found = []
    for text in node.metadata.annotations.get(HOST_NETWORKS, "").split(","):
        try:
            network = ip_network(text.strip())
        except ValueError:
            continue
        if isinstance(network, IPv4Network):
            found.append(network)
    return tuple(found)


def _exhausted(avoid: Collection[IPv4Network], taken: Collection[object], of: Ranges) -> str:
    if covers := next((a for a in avoid if a.supernet_of(of.cluster)), None):
        return f"the cluster range {of.cluster} lies in {covers}, which this host already uses: choose another cluster range"
    total = 2 ** (of.mask - of.cluster.prefixlen)
    also = f", and this host already uses {', '.join(map(str, sorted(avoid)[:3]))}" if avoid else ""
    return f"no pod range is free: of the {total} in {of.cluster} (a /{of.mask} a node) {len(taken)} are taken{also}"
