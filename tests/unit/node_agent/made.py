"""Pods and facts for the tests of the agent."""

from typing import Any

import msgspec

from shoal.model.pod import Pod
from shoal.node_agent.runtime.port import CREATED, EXITED, RUNNING, Fact, Labels

NOW = 1_000_000.0


def a_pod(**spec: Any) -> Pod:
    """One container `web` unless said otherwise; `deleted=True` and `grace=` go into its metadata."""
    metadata: dict[str, Any] = {"name": "web-1", "namespace": "default", "uid": "u1"}
    if spec.pop("deleted", False):
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        metadata["deletionGracePeriodSeconds"] = spec.pop("grace", 30)
    metadata |= spec.pop("metadata", {})
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("containers", [{"name": "web", "image": "shoal/web"}])
    return msgspec.convert({"metadata": metadata, "spec": spec}, Pod)


def a_fact(container: str = "web", **known: Any) -> Fact:
    """Running since a minute unless said otherwise."""
    labels = Labels(
        uid="u1",
        namespace="default",
        pod="web-1",
        container=container,
        attempt=known.pop("attempt", 0),
        failures=known.pop("failures", 0),
        generation=known.pop("generation", 0),
    )
    state = known.setdefault("state", RUNNING)
    if state != CREATED and not known.get("error"):
        known.setdefault("started_at", NOW - 60)
    if state == EXITED:
        known.setdefault("finished_at", NOW)
    known.setdefault("created_at", NOW - 61)
    known.setdefault("id", f"{container or 'sandbox'}-{labels.attempt}-{labels.generation}")
    return Fact(labels=labels, **known)


def a_sandbox(**known: Any) -> Fact:
    return a_fact("", **known)
