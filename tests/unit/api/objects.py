"""Objects for the api's unit tests, made the way people make them: from manifests."""

from typing import Any

import msgspec

from shoal.api import admission
from shoal.model.manifest import Document, parse
from shoal.model.meta import Object

NOW = "2026-11-24T10:00:00Z"
LATER = "2026-11-24T11:00:00Z"

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: c, image: "shoal/busybox:1"}
"""

REPLICA_SET = """
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "shoal/busybox:1"}
"""


def document(text: str) -> Document:
    (found,) = parse(text)
    return found


def made(text: str, *, uid: str = "u1", revision: int = 7, **metadata: Any) -> Any:
    """As it is in the view once `text` was applied. `metadata`: fields to set by hand."""
    obj = admission.apply(document(text), None, uid=uid, now=NOW).object
    return with_metadata(obj, resource_version=str(revision), **metadata)


def with_metadata(obj: Object, **changes: Any) -> Any:
    return msgspec.structs.replace(obj, metadata=msgspec.structs.replace(obj.metadata, **changes))


def with_spec(obj: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(obj, spec=msgspec.structs.replace(obj.spec, **changes))
