"""ReplicaSets: so many pods of one template."""

from typing import Annotated

from shoal.model.field import REQUIRED, at_least, merge_key
from shoal.model.meta import Condition, LabelSelector, Object, Record, always
from shoal.model.pod import PodTemplateSpec


class ReplicaSetSpec(Record, frozen=True, kw_only=True):
    replicas: Annotated[int, at_least(0)] | None = None
    min_ready_seconds: Annotated[int, at_least(0)] = 0
    selector: Annotated[LabelSelector, REQUIRED] = LabelSelector()
    template: Annotated[PodTemplateSpec, REQUIRED] = PodTemplateSpec()


class ReplicaSetStatus(Record, frozen=True, kw_only=True):
    replicas: int = always(0)
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    observed_generation: int = 0
    conditions: Annotated[tuple[Condition, ...], merge_key("type")] = ()


class ReplicaSet(Object, frozen=True, kw_only=True):
    api_version: str = always("apps/v1")
    kind: str = always("ReplicaSet")
    spec: Annotated[ReplicaSetSpec, REQUIRED] = ReplicaSetSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()
