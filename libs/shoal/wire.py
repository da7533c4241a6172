"""The bodies of every request and reply that crosses NATS, except objects themselves (those are `shoal.model`).

JSON, camelCase; a new field always has a default, so that processes of two versions understand each other.
An error is a `shoal.errors.Status` with the header `Nats-Service-Error-Code` beside it (bus.rpc does both).
"""

from typing import Any

import msgspec

from shoal.errors import Status


class Body(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    pass


# --- people → api: shoal.api.<user>.<verb>.<resource>.<ns> --------------------------------------------------------------


class ApplyRequest(Body, kw_only=True):
    """`manifest`: YAML or JSON text, one or many documents. The resource token of the subject is `_`.

    `namespace`: of the documents that name none, and no other is allowed (kubectl's -n). What lies in no namespace may
    stand beside them, which the namespace of the subject does not allow: that one is a right, this one a wish.
    """

    manifest: str
    dry_run: bool = False
    ignore_unknown: bool = False  # then an unknown field is a warning
    source: str = ""  # the file's name, for messages
    namespace: str = ""


class DocumentResult(Body, kw_only=True):
    """What became of one document. `result`: created, configured, unchanged, or failed (then `error`)."""

    document: int
    resource: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    result: str
    uid: str = ""
    revision: int = 0
    warnings: list[str] = []
    error: Status | None = None


class ApplyReply(Body, kw_only=True):
    """Also the body of an outcome (`shoal.outcome.<user>.<id>`). `error`: the message as a whole was refused.

    `omitted`: so many results did not fit one message; those that failed are told first.
    """

    results: list[DocumentResult] = []
    omitted: int = 0
    error: Status | None = None
    traceparent: str = ""
    sequence: int = 0  # of an outcome: the published message's in its stream


class CreateRequest(Body, kw_only=True):
    object: msgspec.Raw
    dry_run: bool = False


class GetRequest(Body, kw_only=True):
    name: str


class ListRequest(Body, kw_only=True):
    """A reply holds as many objects as fit a message (or `limit`, if that is less); then `continue_` asks for the next."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_: str = msgspec.field(default="", name="continue")


class ListReply(Body, kw_only=True):
    """Every page carries the revision of the first: a watch from there shows whatever changed between two pages."""

    kind: str
    api_version: str
    metadata: dict[str, str] = {}  # resourceVersion; continue while there is more
    items: list[msgspec.Raw] = []


class WatchRequest(Body, kw_only=True):
    """Answers at once if something happened after `since`, else when something does, else empty after `wait_seconds`
    (10 at most). A watch's state is its revision, so any api answers the next request. `since` "" means: now.
    """

    since: str = ""
    name: str = ""
    label_selector: str = ""
    field_selector: str = ""
    wait_seconds: float = 10.0


class WatchEvent(Body, kw_only=True):
    type: str  # ADDED, MODIFIED, DELETED
    object: msgspec.Raw


class WatchReply(Body, kw_only=True):
    revision: str
    events: list[WatchEvent] = []


class PatchRequest(Body, kw_only=True):
    """RFC 7396. `subresource` "" or "scale"/"status"."""

    name: str
    subresource: str = ""
    patch: dict[str, Any]
    resource_version: str = ""
    dry_run: bool = False


class DeleteRequest(Body, kw_only=True):
    """`force` with a grace period of 0 removes the record of a pod at once, whatever its node says or does not say.

    The reply is the object: with a deletionTimestamp while it lives on, as it was last where it is gone.
    """

    name: str
    uid: str = ""
    resource_version: str = ""
    propagation_policy: str = "Background"  # Foreground, Orphan
    grace_period_seconds: int | None = None
    force: bool = False
    dry_run: bool = False


class ScaleRequest(Body, kw_only=True):
    name: str
    replicas: int
    current_replicas: int | None = None
    dry_run: bool = False


class EventsRequest(Body, kw_only=True):
    """Namespace by the subject (`_` = all). Filters by the object an event is about; "" = any. Pages as a list does."""

    resource: str = ""
    name: str = ""
    uid: str = ""
    limit: int = 0
    continue_: str = msgspec.field(default="", name="continue")


# --- sessions: logs and exec, pulled by the asker ---------------------------------------------------------------------------


class LogsRequest(Body, kw_only=True):
    name: str
    container: str = ""
    follow: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None
    since_time: str = ""
    previous: bool = False
    timestamps: bool = False
    limit_bytes: int | None = None


class ExecRequest(Body, kw_only=True):
    """`attach` takes the same body without `command`."""

    name: str
    container: str = ""
    command: list[str] = []
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False
    width: int = 80
    height: int = 24


class NodeSessionRequest(Body, kw_only=True):
    """api → node (`shoal.node.<node>.logs|exec|attach`): the pod resolved, the right checked, the asker bound."""

    user: str
    namespace: str
    pod: str
    uid: str
    container: str
    logs: LogsRequest | None = None
    exec: ExecRequest | None = None


class SessionOpened(Body, kw_only=True):
    session: str  # `<node token>/<id>`: any api can relay to it


STDIN_WINDOW = 1 << 20  # bytes of input that may be sent beyond what the process has taken


class SessionRequest(Body, kw_only=True):
    """Each pull carries byte credit and, one way, stdin (`eof`: it ends), a resize or the end.

    `sequence` counts pulls from 1: a pull that is sent again with the same number is answered again, not done twice.
    Input is taken in the order of the numbers. A pull that waits for output is answered at once, empty, when the next
    one arrives: so what is typed need not wait for it. All `stdin` sent is at most `STDIN_WINDOW` more than the last
    answer's `stdin_taken`.
    """

    session: str
    user: str = ""  # set by the api, never by the asker
    sequence: int
    credit_bytes: int = 262_144
    stdin: bytes = b""
    eof: bool = False
    resize: tuple[int, int] | None = None  # width, height
    end: bool = False


class Chunk(Body, kw_only=True):
    stream: int  # 1 stdout, 2 stderr
    data: bytes


class SessionReply(Body, kw_only=True):
    """Within 10 s, at most `credit_bytes`. `done`: nothing comes after this; then `exit_code` (exec) or `error`.

    `stdin_taken`: bytes of input that the process has taken since the beginning.
    """

    sequence: int
    chunks: list[Chunk] = []
    stdin_taken: int = 0
    done: bool = False
    exit_code: int | None = None
    error: Status | None = None


# --- nodes → api ------------------------------------------------------------------------------------------------------------


class RegisterRequest(Body, kw_only=True):
    """shoal.register.<node>. Idempotent by `host_uid`; another host with that name is refused (AlreadyExists).

    `avoid`: CIDRs that the pod range must not overlap (the host's routes, addresses and resolvers).
    """

    host_uid: str
    labels: dict[str, str] = {}
    avoid: list[str] = []
    version: str = ""


class RegisterReply(Body, kw_only=True):
    cluster_uid: str
    node_uid: str
    pod_cidr: str
    cluster_cidr: str
    heartbeat_seconds: float = 0.5
    revision: int = 0  # the cluster's, by then: of two registrations of one host the later has no lower one


class Report(Body, kw_only=True):
    """One changed record. `revision`: of the observed entry that the node knows it replaces (0 = none, -1 = unknown).

    `order`: the revision at which the host registered, and its monotonic clock (ns) when this was said: what was said
    earlier and arrives later is refused. `overtakes`: an earlier one was not answered and may arrive yet, so that this one
    is stored though it says nothing new.

    `gone`: the pod has ended, its containers are removed; the control plane may remove its entries.
    """

    resource: str
    namespace: str
    name: str
    uid: str
    revision: int = -1
    order: tuple[int, int] = (0, 0)
    overtakes: bool = False
    status: msgspec.Raw = msgspec.Raw(b"{}")
    gone: bool = False
    traceparent: str = ""


class NodeEvent(Body, kw_only=True):
    resource: str
    namespace: str
    name: str
    uid: str
    type: str = "Normal"  # or Warning
    reason: str
    message: str
    field_path: str = ""  # of the object: spec.containers{web}
    first: str = ""  # RFC 3339
    last: str = ""
    count: int = 1


class StatusRequest(Body, kw_only=True):
    """shoal.status.<node>: changed records and events. Unanswered: sent again; doing it twice is harmless."""

    session: str = ""
    reports: list[Report] = []
    events: list[NodeEvent] = []


class ReportResult(Body, kw_only=True):
    """`error` reason Conflict: another revision is there now (`revision`); NotFound: no such object with that uid."""

    revision: int = 0
    error: Status | None = None


class StatusReply(Body, kw_only=True):
    results: list[ReportResult] = []


class Heartbeat(Body, kw_only=True):
    session: str
    sequence: int


class HeartbeatReply(Body, kw_only=True):
    sequence: int
    interval_seconds: float = 0.5


class Watermark(Body, kw_only=True):
    """shoal.watermark.<node>: `shared` is programmed up to this revision."""

    revision: int


class NodeWatchRequest(Body, kw_only=True):
    """shoal.watch.<node>.<agent|proxy>. `start` None: list (last per subject), else every change from that sequence."""

    start: int | None = None


class NodeWatchReply(Body, kw_only=True):
    consumer: str
    pending: int
