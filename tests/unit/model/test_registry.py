"""Kinds by every name, and the bytes of the store."""

import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.errors import Invalid
from shoal.model.container import Container, EnvVar, ResourceRequirements
from shoal.model.meta import Object, ObjectMeta
from shoal.model.namespace import Namespace
from shoal.model.pod import BoundPod, Pod, PodSpec, PodStatus, Toleration
from shoal.model.registry import KINDS, by_resource, decode, encode, key_of, kind_of, kind_of_object
from shoal.model.security import PodSecurityContext, SeccompProfile, SecurityContext, effective
from shoal.names import ObjectKey


@pytest.mark.parametrize(
    "name", ["replicasets", "replicaset", "rs", "ReplicaSet", "replicasets.apps", "rs.apps", "replicasets.v1.apps"]
)
def test_a_kind_by_every_name(name: str) -> None:
    assert by_resource(name) is kind_of("apps/v1", "ReplicaSet")


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(Invalid, match=r'unknown resource "nod" \(did you mean node\?\)'):
        by_resource("nod")
    with pytest.raises(Invalid, match=r"known are pods, replicasets, nodes, namespaces, events"):
        by_resource("xyzzy")


def test_no_two_kinds_share_a_word() -> None:
    words = [word for kind in KINDS for word in {kind.resource, kind.singular, *kind.short_names}]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
def test_a_struct_says_its_kind(kind: Any) -> None:
    obj = kind.type()
    assert kind_of_object(obj) is kind
    assert msgspec.json.decode(encode(obj))["kind"] == kind.kind


def test_keys() -> None:
    assert key_of(Pod(metadata=ObjectMeta(name="a", namespace="b"))) == ObjectKey("pods", "b", "a")
    assert key_of(Namespace(metadata=ObjectMeta(name="a", namespace="stray"))) == ObjectKey("namespaces", "", "a")


# --- bytes ----------------------------------------------------------------------------------------------------------------

text = st.text(max_size=5)
tolerations = st.builds(Toleration, key=text, toleration_seconds=st.one_of(st.none(), st.integers()))
maps = st.dictionaries(text, text, max_size=4)
pods = st.builds(
    Pod,
    metadata=st.builds(
        ObjectMeta, name=text, labels=maps, annotations=maps, finalizers=st.lists(text, max_size=2).map(tuple)
    ),
    spec=st.builds(
        PodSpec,
        containers=st.lists(
            st.builds(
                Container,
                name=text,
                env=st.lists(st.builds(EnvVar, name=text, value=text), max_size=2).map(tuple),
                resources=st.builds(ResourceRequirements, limits=maps),
                security_context=st.one_of(
                    st.none(), st.just(SecurityContext()), st.just(SecurityContext(privileged=False))
                ),
                tty=st.booleans(),
            ),
            max_size=2,
        ).map(tuple),
        security_context=st.one_of(st.none(), st.just(PodSecurityContext())),
        node_selector=maps,
        termination_grace_period_seconds=st.one_of(st.none(), st.integers(0, 9)),
        tolerations=st.lists(tolerations, max_size=2).map(tuple),
    ),
    status=st.builds(PodStatus, phase=text, pod_ip=text),
)


@given(pods)
def test_decoding_what_was_encoded(pod: Pod) -> None:
    kind = by_resource("pods")
    assert decode(kind, encode(pod, status=True)) == pod
    assert encode(decode(kind, encode(pod))) == encode(pod)
    assert decode(kind, encode(pod)) == msgspec.structs.replace(pod, status=PodStatus())


@given(pods)
def test_equal_objects_are_equal_bytes(pod: Pod) -> None:
    def turned(words: dict[str, str]) -> dict[str, str]:
        return dict(reversed(words.items()))

    meta = msgspec.structs.replace(pod.metadata, labels=turned(pod.metadata.labels), resource_version="7")
    spec = msgspec.structs.replace(pod.spec, node_selector=turned(pod.spec.node_selector))
    assert encode(msgspec.structs.replace(pod, metadata=meta, spec=spec)) == encode(pod)


def test_a_desired_record_has_no_noise() -> None:
    meta = ObjectMeta(name="a", resource_version="7", self_link="/a", managed_fields=({"manager": "x"},))
    pod = Pod(metadata=meta, status=PodStatus(phase="Running"))
    assert encode(pod) == b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}'
    assert b'"status":{"phase":"Running"}' in encode(pod, status=True)
    assert pod.metadata.resource_version == "7"


def test_a_record_of_a_newer_version_is_read() -> None:
    data = (
        b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","new":1},"spec":{"restartPolicy":"Sometimes","x":{}}}'
    )
    obj: Object = decode(by_resource("pods"), data)
    assert isinstance(obj, Pod)
    assert obj.spec.restart_policy == "Sometimes"


def test_a_bound_copy_carries_the_desired_record_as_it_is() -> None:
    pod = Pod(metadata=ObjectMeta(name="a"))
    bound = msgspec.json.decode(msgspec.json.encode({"pod": msgspec.Raw(encode(pod)), "drained": True}), type=BoundPod)
    assert bound == BoundPod(pod=pod, drained=True)


def test_what_a_container_says_wins_over_its_pod() -> None:
    pod = PodSecurityContext(run_as_user=1, run_as_non_root=True, seccomp_profile=SeccompProfile(type="Unconfined"))
    own = SecurityContext(run_as_user=0, run_as_non_root=False, privileged=True)
    joined = effective(pod, own)
    assert (joined.run_as_user, joined.run_as_non_root, joined.privileged) == (0, False, True)
    assert joined.seccomp_profile == SeccompProfile(type="Unconfined")
    assert effective(None, None) == SecurityContext()


def test_importing_the_model_imports_no_yaml_and_no_io() -> None:
    """The agent and the command line must stay small and quick to start."""
    code = (
        "import sys, shoal.model.registry, shoal.model.table, shoal.model.selectors, shoal.model.patch;"
        "print([m for m in ('yaml', 'difflib', 'json', 'asyncio', 'socket', 'nats', 'ipaddress') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
