"""Namespaces."""

from typing import Annotated

from shoal.model.field import MERGE_SET, merge_key, one_of
from shoal.model.meta import Condition, Object, Record, always


class NamespaceSpec(Record, frozen=True, kw_only=True):
    """`finalizers`: `kubernetes` stands for everything that lives in the namespace."""

    finalizers: Annotated[tuple[str, ...], MERGE_SET] = ()


class NamespaceStatus(Record, frozen=True, kw_only=True):
    phase: Annotated[str, one_of("Active", "Terminating")] = ""
    conditions: Annotated[tuple[Condition, ...], merge_key("type")] = ()


class Namespace(Object, frozen=True, kw_only=True):
    api_version: str = always("v1")
    kind: str = always("Namespace")
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()
