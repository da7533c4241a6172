"""The shared types of every object: metadata, references, selectors, conditions.

Structs are frozen (objects lie in shared caches: change one with `msgspec.structs.replace`), keyword-only, camelCase
on the wire, and leave out what has its default. Decoding a stored record ignores unknown fields, so that two
versions can read each other; user input is decoded strictly by `model.manifest`.
"""

from typing import Annotated, Any, TypeVar

import msgspec

from shoal.model.field import MERGE_SET, TIME, merge_key, one_of

T = TypeVar("T")

_ACRONYMS = {
    "ip": "IP", "ips": "IPs", "cidr": "CIDR", "cidrs": "CIDRs", "id": "ID", "pid": "PID",
    "ipc": "IPC", "uuid": "UUID", "url": "URL", "tcp": "TCP",
}  # fmt: skip


def wire_name(field: str) -> str:
    """`pod_ip` → `podIP`, `host_ipc` → `hostIPC`, `api_version` → `apiVersion`. A trailing `_` (`from_`) is dropped."""
    head, *rest = field.rstrip("_").split("_")
    return head + "".join(_ACRONYMS.get(part, part.capitalize()) for part in rest)


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=wire_name):
    """Base of everything in the model."""


class OwnerReference(Record, frozen=True, kw_only=True):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(Record, frozen=True, kw_only=True):
    """`resource_version` is never stored: the reader fills it in (the highest revision of the entries it read).

    Times are RFC 3339 in UTC with whole seconds, as Kubernetes writes them.
    """

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Annotated[str, TIME] | None = None
    deletion_timestamp: Annotated[str, TIME] | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: Annotated[tuple[OwnerReference, ...], merge_key("uid")] = ()
    finalizers: Annotated[tuple[str, ...], MERGE_SET] = ()
    managed_fields: tuple[dict[str, Any], ...] = ()
    self_link: str = ""


class LabelSelectorRequirement(Record, frozen=True, kw_only=True):
    key: str
    operator: Annotated[str, one_of("In", "NotIn", "Exists", "DoesNotExist")]
    values: tuple[str, ...] = ()


class LabelSelector(Record, frozen=True, kw_only=True):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


class Condition(Record, frozen=True, kw_only=True):
    """`status`: True, False or Unknown."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str | None = None
    last_probe_time: str | None = None
    last_heartbeat_time: str | None = None


def always(value: T) -> T:
    """A default that is written all the same: msgspec leaves out plain defaults, but an object must name its kind, and
    Kubernetes writes some zeros (`replicas: 0`).
    """
    made: T = msgspec.field(default_factory=lambda: value)
    return made


class Object(Record, frozen=True, kw_only=True):
    """Base of every kind: it sets `api_version` and `kind` by `always(...)`, and adds `spec` and `status`."""

    api_version: str
    kind: str
    metadata: ObjectMeta = ObjectMeta()
