"""What a cluster begins with: its identity and ranges, and the namespace `default`. Made by whichever api is first."""

from ipaddress import IPv4Network

import msgspec

from shoal.api import registration
from shoal.api.admission import create
from shoal.api.live import Live
from shoal.api.registration import Ranges
from shoal.api.writing import Clock
from shoal.errors import Conflict
from shoal.model.manifest import decode_input
from shoal.model.registry import by_resource, encode
from shoal.names import EPOCH, ObjectKey, desired
from shoal.store.records import Put
from shoal.store.store import Store
from shoal.telemetry.logs import log

NAMESPACES = ("default",)


class Cluster(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """system.epoch.cluster. `epoch` rises with each restore: then revisions begin anew."""

    uid: str
    epoch: int = 1
    cluster_cidr: str = msgspec.field(name="clusterCIDR")
    node_mask: int

    @property
    def ranges(self) -> Ranges:
        return Ranges(IPv4Network(self.cluster_cidr), self.node_mask)


async def found(live: Live, store: Store, clock: Clock, *, cluster_cidr: str, node_mask: int) -> Cluster:
    """The cluster's record, made if there is none. A range that is asked for and is not the cluster's is said, and not
    taken: nodes have pieces of the old one. Raises: Invalid for a range that can be none.
    """
    registration.ranges(cluster_cidr, node_mask)
    while True:
        await live.newest()
        entry = live.view.entry(EPOCH)
        if entry is not None and entry.value:
            break
        made = Cluster(uid=clock.uid(), cluster_cidr=cluster_cidr, node_mask=node_mask)
        try:
            await store.commit([Put(EPOCH, msgspec.json.encode(made), 0)])
        except Conflict:
            continue  # another api was first
    cluster = msgspec.json.decode(entry.value, type=Cluster)
    if (cluster.cluster_cidr, cluster.node_mask) != (cluster_cidr, node_mask):
        log.warning(
            "cluster.range_kept",
            asked=f"{cluster_cidr} /{node_mask}",
            kept=f"{cluster.cluster_cidr} /{cluster.node_mask}",
        )
    for name in NAMESPACES:
        await _namespace(live, store, clock, name)
    return cluster


async def _namespace(live: Live, store: Store, clock: Clock, name: str) -> None:
    key = ObjectKey("namespaces", "", name)
    if live.view.desired_entry(key) is not None:
        return
    obj = create(
        decode_input(by_resource("namespaces"), {"metadata": {"name": name}}), uid=clock.uid(), now=clock.rfc3339()
    )
    try:
        await store.commit([Put(desired(key), encode(obj), 0)])
    except Conflict:
        return  # another api was first
