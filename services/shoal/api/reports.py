"""Is it this node's to say? What a node reports, checked, and the entry it becomes. Pure.

A node speaks for the pods that are bound to it and for itself, under a name that the server enforced (the subject's).
Each record names the uid, so that a late report never lands on a successor of the same name.
"""

from typing import Any

import msgspec

from shoal.errors import Conflict, Forbidden, Invalid, NotFound, ShoalError, TooLarge
from shoal.model.meta import Condition, Record
from shoal.model.registry import by_resource
from shoal.names import NODES, PODS, RESOURCE_NODE_NETWORKS, ObjectKey
from shoal.store.records import Entry
from shoal.store.stored import Observed, Stored, decode_observed, decode_status
from shoal.wire import Report

STATUS_BYTES_MAX = {PODS: 131_072, NODES: 262_144, RESOURCE_NODE_NETWORKS: 16_384}
REPORTS_MAX = 400


class Write(msgspec.Struct, frozen=True):
    """Put `value` under observed.<node>.<key>, over `expected`."""

    key: ObjectKey
    value: bytes
    expected: int


class Unchanged(msgspec.Struct, frozen=True):
    """It is known already, under this revision."""

    revision: int


class Refuse(msgspec.Struct, frozen=True):
    """`revision`: of the entry that is there, 0 if none. `confirm`: a stale view may be the reason; look again first."""

    error: ShoalError
    revision: int = 0
    confirm: bool = False


Verdict = Write | Unchanged | Refuse


class NetworkStatus(Record, frozen=True, kw_only=True):
    """The status of a `nodenetworks` record."""

    conditions: tuple[Condition, ...] = ()


_network_decoder = msgspec.json.Decoder(NetworkStatus)


def subject_of(report: Report) -> ObjectKey:
    """The object whose existence and uid a report stands or falls with."""
    if report.resource == RESOURCE_NODE_NETWORKS:
        return ObjectKey(NODES, "", report.name)
    return ObjectKey(report.resource, report.namespace, report.name)


def check(node: str, report: Report, about: Stored[Any] | None, entry: Entry | None) -> Verdict:
    """`about`: the object named by `subject_of`; `entry`: this node's present entry for the report's own key."""
    key = ObjectKey(report.resource, report.namespace, report.name)
    revision = entry.revision if entry is not None else 0
    try:
        confirm = _mine(node, report, about)
        if confirm is not None:
            return Refuse(confirm, revision, confirm=True)
        _well_formed(report)
    except ShoalError as error:
        return Refuse(error, revision)
    known = _known(entry)
    if known is not None and known.uid != report.uid:
        known = None
    if known is not None and known.order > report.order:
        return Refuse(Conflict(f"{key}: this was said before what is known"), revision)
    record = Observed(
        uid=report.uid,
        observed_generation=_generation(report.status),
        gone=report.gone or (known is not None and known.gone),
        order=report.order,
        status=report.status,
    )
    if entry is not None and known is not None and _says_the_same(record, known) and not _must_overtake(report, known):
        return Unchanged(entry.revision)  # also the repeat of a report whose answer was lost
    if report.revision >= 0 and report.revision != revision:
        return Refuse(Conflict(f"{key} was reported since under revision {revision}"), revision, confirm=True)
    return Write(key, msgspec.json.encode(record), revision)


def _says_the_same(record: Observed, known: Observed) -> bool:
    return msgspec.structs.replace(record, order=known.order) == known


def _must_overtake(report: Report, known: Observed) -> bool:
    return report.overtakes and known.order < report.order


def _mine(node: str, report: Report, about: Stored[Any] | None) -> ShoalError | None:
    """None if it is. Raises: Forbidden for what never will be; returns what a newer view may judge otherwise."""
    if report.resource not in STATUS_BYTES_MAX:
        raise Forbidden(f"a node does not report {report.resource[:64] or 'nothing'}")
    if report.resource in (NODES, RESOURCE_NODE_NETWORKS) and (report.name != node or report.namespace):
        raise Forbidden(f"node {node} reports of itself alone, not of {report.name[:253]}")
    if about is None:
        return NotFound(f"there is no {subject_of(report)}")
    if about.uid != report.uid:
        return NotFound(f"{subject_of(report)} is another now: its uid is {about.uid}")
    if report.resource == PODS and (bound := about.object.spec.node_name) != node:
        return Forbidden(f"{subject_of(report)} is bound to {f'node {bound}' if bound else 'no node'}, not to {node}")
    return None


def _well_formed(report: Report) -> None:
    size, most = len(bytes(report.status)), STATUS_BYTES_MAX[report.resource]
    if size > most:
        raise TooLarge(f"a status of {size} bytes; {most} at most for {report.resource}")
    try:
        if report.resource == RESOURCE_NODE_NETWORKS:
            _network_decoder.decode(report.status)
        else:
            decode_status(by_resource(report.resource), report.status)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Invalid(f"the status cannot be read: {error}", path="status") from None


def _known(entry: Entry | None) -> Observed | None:
    try:
        return decode_observed(entry.value) if entry is not None and entry.value is not None else None
    except msgspec.MsgspecError:
        return None


class _Generation(msgspec.Struct):
    observedGeneration: int = 0  # noqa: N815  (wire name)


def _generation(status: msgspec.Raw) -> int:
    return msgspec.json.decode(status, type=_Generation).observedGeneration
