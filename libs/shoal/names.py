"""Every subject, stream, bucket, key, consumer, header and label that Shoal uses. No other module spells one.

Keys of the bucket `state` are module functions: they are the same in every cluster. Subjects, streams and buckets
carry the cluster's prefix (`shoal` by default; several clusters share one NATS system by different prefixes) and are
methods of `Names`.

A name may hold dots and colons, a token may not: `token()` writes `.` as `=2E` and `:` as `=3A` (`=` is legal in a
key and in no object's name). An absent namespace is `_`.
"""

import re

import msgspec

# --- tokens ------------------------------------------------------------------------------------------------------

NO_NAMESPACE = "_"
CONTROL_PLANE = "_"  # the writer of an observed entry that is not a node

PODS = "pods"
NODES = "nodes"

# Resources that are no kinds: records beside an object.
RESOURCE_POD_RANGES = "podranges"  # shared: which node has which range; claimed under the same name
RESOURCE_NODE_NETWORKS = "nodenetworks"  # observed: what a node's proxy says of its network

_UNFIT = re.compile(r"[*>= \t\r\n]")


def token(name: str) -> str:
    """`web.example:80` → `web=2Eexample=3A80`; "" (no namespace) → `_`.

    Raises: ValueError for a name that could reach beyond its token (`*`, `>`, white space, a raw `=`).
    """
    if not name:
        return NO_NAMESPACE
    if _UNFIT.search(name):
        raise ValueError(f"{name!r} cannot be part of a subject")
    return name.replace(".", "=2E").replace(":", "=3A")


def untoken(part: str) -> str:
    """The name behind a token; "" for `_`."""
    return "" if part == NO_NAMESPACE else part.replace("=2E", ".").replace("=3A", ":")


# --- keys of the bucket `state` -----------------------------------------------------------------------------------


class ObjectKey(msgspec.Struct, frozen=True, order=True):
    """Which object: the plural of its kind (with its group outside the built-in ones), namespace ("" = none), name."""

    resource: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.resource}/{self.namespace}/{self.name}" if self.namespace else f"{self.resource}/{self.name}"


def _tail(key: ObjectKey) -> str:
    return f"{token(key.resource)}.{token(key.namespace)}.{token(key.name)}"


def desired(key: ObjectKey) -> str:
    """desired.<resource>.<ns>.<name>: what is wanted. Written by api, replica-controller, scheduler (nodeName)."""
    return f"desired.{_tail(key)}"


def observed(writer: str, key: ObjectKey) -> str:
    """observed.<writer>.<resource>.<ns>.<name>: what is seen, by the control plane (`CONTROL_PLANE`) or a node."""
    return f"observed.{token(writer) if writer != CONTROL_PLANE else writer}.{_tail(key)}"


def bound(node: str, key: ObjectKey) -> str:
    """bound.<node>.<resource>.<ns>.<name>: a node's copy. Its pods by the scheduler, all else by delivery."""
    return f"bound.{token(node)}.{_tail(key)}"


def shared(key: ObjectKey) -> str:
    """shared.<resource>.<ns>.<name>: what every node may read."""
    return f"shared.{_tail(key)}"


def system(space: str, *name: str) -> str:
    """system.<space>.<name…>: the control plane's own (leaders, fence, cursor, claims, epoch)."""
    return ".".join(("system", space, *(token(n) for n in name)))


CURSOR_MANIFESTS = "system.cursor.manifests"
EPOCH = "system.epoch.cluster"


def leader(group: str) -> str:
    """The token key of a group of controllers: its revision is what a fence compares."""
    return system("leaders", group)


def fence(group: str) -> str:
    """The scratch key that opens every batch of a leader and carries its fence."""
    return system("fence", group)


def claim(space: str, value: str) -> str:
    """system.claims.<space>.<value>: what must be unique beyond one key (`podranges`)."""
    return system("claims", space, value)


class ParsedKey(msgspec.Struct, frozen=True):
    """A key of the bucket taken apart. `part` is its first token; `owner` the writer or node, "" where there is none."""

    part: str
    owner: str
    object: ObjectKey | None


def parse_key(key: str) -> ParsedKey:
    """Total: a key of no known form comes back with `object` None (system keys, a newer version's keys)."""
    parts = key.split(".")
    match parts:
        case ["desired" | "shared" as part, resource, namespace, name]:
            return ParsedKey(part, "", ObjectKey(untoken(resource), untoken(namespace), untoken(name)))
        case ["observed" | "bound" as part, owner, resource, namespace, name]:
            writer = owner if owner == CONTROL_PLANE else untoken(owner)
            return ParsedKey(part, writer, ObjectKey(untoken(resource), untoken(namespace), untoken(name)))
        case _:
            return ParsedKey(parts[0], "", None)


ALL_KEYS = ">"
DESIRED_ALL = "desired.>"
OBSERVED_ALL = "observed.>"
BOUND_ALL = "bound.>"
SHARED_ALL = "shared.>"
CLAIMS_ALL = "system.claims.>"


def desired_of(resource: str) -> str:
    """Filter: every desired object of a resource."""
    return f"desired.{token(resource)}.>"


def desired_in(namespace: str) -> str:
    """Filter: every desired object in a namespace."""
    return f"desired.*.{token(namespace)}.>"


def observed_of(resource: str) -> str:
    """Filter: what every writer saw of a resource."""
    return f"observed.*.{token(resource)}.>"


def observed_by(writer: str, resource: str) -> str:
    """Filter: what one writer saw of a resource."""
    return f"observed.{token(writer) if writer != CONTROL_PLANE else writer}.{token(resource)}.>"


def shared_of(resource: str) -> str:
    """Filter: every shared copy of a resource."""
    return f"shared.{token(resource)}.>"


def bound_to(node: str) -> str:
    """Filter: everything bound to one node."""
    return f"bound.{token(node)}.>"


def bound_of(resource: str) -> str:
    """Filter: every node's copies of a resource."""
    return f"bound.*.{token(resource)}.>"


# --- headers ------------------------------------------------------------------------------------------------------

TRACEPARENT = "traceparent"  # W3C; on every message, and kept with each stored entry
WRITE_ID = "Shoal-Write"  # of a single put, as Nats-Batch-Id of a batch: by it a writer finds its own write again
MESSAGE_ID = "Shoal-Id"  # on a published manifest: the id under which its outcome is told
OUTCOME = "Shoal-Outcome"  # set by the api alone: a reply led to an outcome's subject lacks it
MESSAGE_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"

# --- NATS' own service protocol (`nats micro`) ----------------------------------------------------------------------------


API_SERVICE = "shoal-api"


def micro(verb: str, *service: str) -> str:
    """$SRV.<PING|INFO|STATS>[.<name>[.<id>]]: asked of every service, of those of a name, or of one instance."""
    return ".".join(("$SRV", verb, *service))


# --- JetStream's own ---------------------------------------------------------------------------------------------------

JS_API = "$JS.API"  # its API, under the name that it has inside the control plane's account
JS_ACK = "$JS.ACK"  # how the reply subject of each message of a consumer begins

# --- labels and annotations -----------------------------------------------------------------------------------------

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
LABEL_HOSTNAME = "kubernetes.io/hostname"
LABEL_OS = "kubernetes.io/os"
LABEL_OS_BETA = "beta.kubernetes.io/os"
LABEL_ARCH = "kubernetes.io/arch"
LABEL_ARCH_BETA = "beta.kubernetes.io/arch"
NODE_LABELS = (
    LABEL_HOSTNAME,
    LABEL_OS,
    LABEL_OS_BETA,
    LABEL_ARCH,
    LABEL_ARCH_BETA,
)  # a node may set these itself

HOST_UID = "shoal.io/host-uid"  # annotations of a node: which host it is, and what its pods' range must not overlap
HOST_NETWORKS = "shoal.io/host-networks"
IMAGE_DIGEST = "io.shoal.image"  # label of an image that was made on the spot

# Labels of containers: the first four are what log shippers know, an agent touches only what carries both of the last.
CONTAINER_POD_NAMESPACE = "io.kubernetes.pod.namespace"
CONTAINER_POD_NAME = "io.kubernetes.pod.name"
CONTAINER_POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
CONTAINER_CLUSTER = "io.shoal.cluster"  # the cluster's uid
CONTAINER_NODE = "io.shoal.node"
CONTAINER_LOCAL = "io.shoal.local"  # of what `shoal up` started beside the cluster, in an engine of the user's
CONTAINER_ATTEMPT = "io.shoal.attempt"  # what an agent that restarts reads back: runtime.port.Labels
CONTAINER_FAILURES = "io.shoal.failures"
CONTAINER_GENERATION = "io.shoal.generation"
CONTAINER_ADDRESS = "io.shoal.address"  # of a sandbox: the pod's


# --- subjects, streams, buckets ---------------------------------------------------------------------------------------


class Names(msgspec.Struct, frozen=True):
    """The names of one cluster. `js` is the JetStream API under which this process reaches the store: `$JS.API`
    inside the control plane's account, an imported name on a node.
    """

    prefix: str = "shoal"
    js: str = JS_API

    # streams and buckets
    @property
    def state_bucket(self) -> str:
        return "state" if self.prefix == "shoal" else f"{self.prefix}_state"

    @property
    def state_stream(self) -> str:
        return f"KV_{self.state_bucket}"

    def state_subject(self, key: str) -> str:
        return f"$KV.{self.state_bucket}.{key}"

    @property
    def leases_bucket(self) -> str:
        return "leases" if self.prefix == "shoal" else f"{self.prefix}_leases"

    @property
    def leases_stream(self) -> str:
        return f"KV_{self.leases_bucket}"

    @property
    def leases_prefix(self) -> str:
        """What a subject of the bucket has before its key."""
        return f"$KV.{self.leases_bucket}."

    def lease_subject(self, group: str) -> str:
        return f"{self.leases_prefix}{token(group)}"

    @property
    def manifests_stream(self) -> str:
        return f"{self.prefix}_manifests"

    @property
    def manifests_consumer(self) -> str:
        """The durable one from which the api's leader takes published messages."""
        return "manifests"

    @property
    def events_stream(self) -> str:
        return f"{self.prefix}_events"

    @property
    def outcomes_stream(self) -> str:
        return f"{self.prefix}_outcomes"

    # people
    def manifests(self, user: str, namespace: str) -> str:
        """Publish (acknowledged) one or many documents here; namespace "" (`_`): they name their own."""
        return f"{self.prefix}.manifests.{token(user)}.{token(namespace)}"

    @property
    def manifests_all(self) -> str:
        return f"{self.prefix}.manifests.*.*"

    def api(self, user: str, verb: str, resource: str, namespace: str) -> str:
        """shoal.api.<user>.<verb>.<resource>.<ns or _>: request/reply. Resource "" is `_`."""
        return f"{self.prefix}.api.{token(user)}.{verb}.{token(resource)}.{token(namespace)}"

    def api_endpoint(self, verb: str) -> str:
        """What one endpoint of the api serves: any user, resource and namespace."""
        return f"{self.prefix}.api.*.{verb}.*.*"

    def outcome(self, user: str, message_id: str) -> str:
        return f"{self.prefix}.outcome.{token(user)}.{token(message_id)}"

    @property
    def outcomes_all(self) -> str:
        return f"{self.prefix}.outcome.*.*"

    def event(self, key: ObjectKey, reporter: str, reason: str, note: str = "") -> str:
        """shoal.events.<ns>.<resource>.<name>.<reporter>.<reason>.<note>: one message a subject, the newest.

        `note`: which of the different things that are told for that reason (`store.events.note`).
        """
        where = f"{token(key.namespace)}.{token(key.resource)}.{token(key.name)}"
        return f"{self.prefix}.events.{where}.{token(reporter)}.{token(reason)}.{token(note)}"

    def events_for(self, key: ObjectKey, reporter: str, reason: str) -> str:
        """Filter: all that one reporter told of an object for one reason."""
        return f"{self.event(key, reporter, reason).rpartition('.')[0]}.*"

    def events_of(self, key: ObjectKey) -> str:
        return f"{self.prefix}.events.{token(key.namespace)}.{token(key.resource)}.{token(key.name)}.*.*.*"

    def events_in(self, namespace: str | None) -> str:
        """Filter: a namespace's events ("" = of cluster-wide objects), None = all."""
        return f"{self.prefix}.events.{'*' if namespace is None else token(namespace)}.*.*.*.*.*"

    # nodes → api
    def register(self, node: str) -> str:
        return f"{self.prefix}.register.{token(node)}"

    def status(self, node: str) -> str:
        return f"{self.prefix}.status.{token(node)}"

    def heartbeat(self, node: str) -> str:
        return f"{self.prefix}.heartbeat.{token(node)}"

    def watermark(self, node: str) -> str:
        return f"{self.prefix}.watermark.{token(node)}"

    def watch(self, node: str, process: str) -> str:
        """shoal.watch.<node>.<agent|proxy>: the api makes that process's consumer."""
        return f"{self.prefix}.watch.{token(node)}.{process}"

    def from_nodes(self, kind: str) -> str:
        """What the control plane subscribes to: `register`, `status`, `heartbeat`, `watermark` of every node."""
        return f"{self.prefix}.{kind}.*"

    @property
    def watch_all(self) -> str:
        return f"{self.prefix}.watch.*.*"

    # api → node
    def node(self, node: str, verb: str) -> str:
        """shoal.node.<node>.<verb>: `logs`, `exec`, `attach`, `stats`, `session`; asked by the api alone."""
        return f"{self.prefix}.node.{token(node)}.{verb}"

    def node_all(self, node: str) -> str:
        return f"{self.prefix}.node.{token(node)}.*"

    def node_consumer(self, node: str, process: str) -> str:
        """`agent_<node>`, `proxy_<node>`: the one consumer of a process of a node."""
        return f"{process}_{token(node)}"
