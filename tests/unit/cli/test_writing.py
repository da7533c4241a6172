"""apply, create, delete, scale, patch, wait: what they ask, what they print, how they end."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from tests.unit.cli.fake import FakeCluster, a_node, a_pod, a_replica_set, raw, shoal

from shoal.cli.arguments import UsageError
from shoal.cli.failure import Failed
from shoal.errors import BadRequest, Invalid, NotFound, Status, Unavailable, to_status
from shoal.model.problem import ManifestErrors
from shoal.wire import ApplyReply, ApplyRequest, DeleteRequest, DocumentResult, ScaleRequest, WatchEvent

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: main, image: shoal/busybox}]\n"


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "web.yaml"
    path.write_text(POD)
    return str(path)


def applied(
    result: str, name: str = "web", *, warnings: Sequence[str] = (), error: Status | None = None
) -> DocumentResult:
    return DocumentResult(
        document=1,
        resource="pods",
        kind="Pod",
        namespace="default",
        name=name,
        result=result,
        warnings=[*warnings],
        error=error,
    )


# --- apply --------------------------------------------------------------------------------------------------------------


async def test_apply_prints_what_became_of_each_document(manifest: str) -> None:
    cluster = FakeCluster()
    rs = DocumentResult(document=3, resource="replicasets", kind="ReplicaSet", name="db", result="unchanged")
    cluster.apply_reply = ApplyReply(results=[applied("created"), applied("configured", "api"), rs])
    ran = await shoal(cluster, "apply", "-f", manifest)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "pod/web created\npod/api configured\nreplicaset.apps/db unchanged\n"
    assert cluster.requests("apply") == [ApplyRequest(manifest=POD, source=manifest)]


async def test_apply_dry_run_on_the_server(manifest: str) -> None:
    cluster = FakeCluster()
    cluster.apply_reply = ApplyReply(results=[applied("configured")])
    ran = await shoal(cluster, "apply", "-f", manifest, "--dry-run=server", "--validate=warn")
    assert ran.out == "pod/web configured (server dry run)\n"
    assert cluster.requests("apply") == [ApplyRequest(manifest=POD, source=manifest, dry_run=True, ignore_unknown=True)]


async def test_apply_dry_run_here_asks_nobody(manifest: str) -> None:
    cluster = FakeCluster()
    ran = await shoal(cluster, "apply", "-f", manifest, "--dry-run")
    assert ran.out == "pod/web created (dry run)\n"
    ran = await shoal(cluster, "apply", "-f", manifest, "--dry-run=client", "-o", "json")
    assert msgspec.json.decode(ran.out)["spec"]["restartPolicy"] == "Always"
    assert cluster.asked == []


async def test_apply_tells_where_a_manifest_is_wrong(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(POD.replace("image", "imgae"))
    ran = await shoal(FakeCluster(), "apply", "-f", str(bad), "--dry-run=client")
    assert ran.code == 1
    assert ran.err.startswith(f"error: {bad}:5: document 1: spec.containers[0].imgae: unknown field")
    assert "did you mean image" in ran.err


async def test_apply_goes_on_with_the_next_file_and_fails(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POD)
    (tmp_path / "b.yml").write_text(POD)
    (tmp_path / "notes.txt").write_text("not a manifest")
    cluster = FakeCluster()
    error = to_status(Invalid("unknown field", path="spec.x"))
    cluster.apply_reply = ApplyReply(error=error, results=[])
    ran = await shoal(cluster, "apply", "-f", str(tmp_path))
    assert [r.source for r in cluster.requests("apply")] == [str(tmp_path / "a.yaml"), str(tmp_path / "b.yml")]
    assert ran.code == 1
    assert ran.err == (
        f"error: {tmp_path}/a.yaml: spec.x: unknown field\nerror: {tmp_path}/b.yml: spec.x: unknown field\n"
    )


async def test_apply_tells_of_warnings_and_of_a_document_that_failed(manifest: str) -> None:
    cluster = FakeCluster()
    failed = applied("failed", error=to_status(NotFound('namespaces "x" not found')))
    cluster.apply_reply = ApplyReply(results=[applied("created", warnings=["spec.x: unknown field"]), failed])
    ran = await shoal(cluster, "apply", "-f", manifest)
    assert (ran.code, ran.out) == (1, "pod/web created\n")
    assert ran.err == (
        f'Warning: {manifest}: spec.x: unknown field\nerror: {manifest}: document 1: namespaces "x" not found\n'
    )


async def test_apply_shows_the_object(manifest: str) -> None:
    cluster = FakeCluster(a_pod())
    cluster.apply_reply = ApplyReply(results=[applied("created")])
    assert msgspec.json.decode((await shoal(cluster, "apply", "-f", manifest, "-o", "json")).out) == a_pod()
    assert (await shoal(cluster, "apply", "-f", manifest, "-o", "name")).out == "pod/web\n"


async def test_apply_can_wait(manifest: str) -> None:
    cluster = FakeCluster(a_pod(status={"conditions": []}))
    cluster.apply_reply = ApplyReply(results=[applied("created")])
    cluster.changes = [[WatchEvent(type="MODIFIED", object=raw(a_pod()))]]
    ran = await shoal(cluster, "apply", "-f", manifest, "--wait")
    assert ran.out == "pod/web created\npod/web ready\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name the manifests by -f FILE"),
        (["web.yaml"], "'web.yaml' is not expected here; manifests are named by -f"),
        (["-f", "https://example.com/web.yaml"], "addresses are not read; curl"),
    ],
)
async def test_apply_words_that_cannot_be(words: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        await shoal(FakeCluster(), "apply", *words)


async def test_a_folder_without_manifests(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "web.yaml").write_text(POD)
    with pytest.raises(BadRequest, match="-R looks into the folders in it"):
        await shoal(FakeCluster(), "apply", "-f", str(tmp_path))
    cluster = FakeCluster()
    await shoal(cluster, "apply", "-R", "-f", str(tmp_path))
    assert [r.source for r in cluster.requests("apply")] == [str(tmp_path / "inner" / "web.yaml")]


# --- create -------------------------------------------------------------------------------------------------------------


async def test_create(manifest: str) -> None:
    cluster = FakeCluster()
    ran = await shoal(cluster, "create", "-f", manifest)
    assert ran.out == "pod/web created\n"
    assert [a[:3] for a in cluster.asked] == [("create", "pods", "default")]


async def test_create_namespace() -> None:
    cluster = FakeCluster()
    assert (await shoal(cluster, "create", "ns", "prod")).out == "namespace/prod created\n"
    assert [a[:3] for a in cluster.asked] == [("create", "namespaces", "")]


async def test_create_refuses_what_is_wrong_before_anything_is_made(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(POD + "---\n" + POD.replace("Pod", "Pot"))
    cluster = FakeCluster()
    with pytest.raises(ManifestErrors):
        await shoal(cluster, "create", "-f", str(bad))
    assert cluster.asked == []


# --- delete -------------------------------------------------------------------------------------------------------------


async def test_delete_waits_until_it_is_gone() -> None:
    cluster = FakeCluster(a_pod())

    async def kept(resource: str, namespace: str, request: DeleteRequest, *, traceparent: str = "") -> msgspec.Raw:
        cluster.asked.append(("delete", resource, namespace, request))
        return raw(a_pod())

    cluster.delete = kept  # type: ignore[method-assign]
    cluster.changes = [
        [WatchEvent(type="MODIFIED", object=raw(a_pod())), WatchEvent(type="DELETED", object=raw(a_pod()))]
    ]
    ran = await shoal(cluster, "delete", "pod", "web")
    assert (ran.code, ran.out) == (0, 'pod "web" deleted\n')
    assert cluster.requests("delete") == [DeleteRequest(name="web")]
    assert len(cluster.requests("watch")) == 1


async def test_another_of_the_same_name_counts_as_gone() -> None:
    cluster = FakeCluster(a_pod())
    successor = a_pod()
    successor["metadata"]["uid"] = "another"

    async def replaced(resource: str, namespace: str, request: DeleteRequest, *, traceparent: str = "") -> msgspec.Raw:
        cluster.objects = [successor]
        return raw(a_pod())

    cluster.delete = replaced  # type: ignore[method-assign]
    assert (await shoal(cluster, "delete", "pod/web")).code == 0
    assert cluster.requests("watch") == []


async def test_delete_by_file_last_first_whatever_else_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod}\n---\n"
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: prod}, spec: {nonsense: 1}}\n"
        "- {apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web}}\n"
    )
    cluster = FakeCluster()
    ran = await shoal(cluster, "delete", "-f", str(path), "--ignore-not-found")
    assert [(a[1], a[2]) for a in cluster.asked if a[0] == "delete"] == [
        ("replicasets", "default"),
        ("pods", "prod"),
        ("namespaces", ""),
    ]
    assert (ran.code, ran.out, ran.err) == (0, "", "")


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        (["--grace-period=5"], DeleteRequest(name="web", grace_period_seconds=5)),
        (["--now"], DeleteRequest(name="web", grace_period_seconds=1)),
        (["--grace-period=0"], DeleteRequest(name="web", grace_period_seconds=1)),
        (["--force", "--grace-period=0"], DeleteRequest(name="web", grace_period_seconds=0, force=True)),
        (["--force"], DeleteRequest(name="web", grace_period_seconds=0, force=True)),
        (["--cascade=orphan"], DeleteRequest(name="web", propagation_policy="Orphan")),
        (["--cascade=foreground"], DeleteRequest(name="web", propagation_policy="Foreground")),
        (["--cascade"], DeleteRequest(name="web", propagation_policy="Background")),
        (["--dry-run=server"], DeleteRequest(name="web", dry_run=True)),
    ],
)
async def test_delete_flags(flags: list[str], asked: DeleteRequest) -> None:
    cluster = FakeCluster(a_replica_set())
    ran = await shoal(cluster, "delete", "rs/web", *flags)
    assert cluster.requests("delete") == [asked]
    word = "force deleted" if "--force" in flags else "deleted"
    suffix = " (server dry run)" if asked.dry_run else ""
    assert ran.out == f'replicaset.apps "web" {word}{suffix}\n'
    assert ran.err.startswith("Warning: Immediate deletion") is ("--force" in flags)


async def test_delete_by_label_and_what_is_not_there() -> None:
    cluster = FakeCluster(a_pod("a"), a_pod("b"), a_pod("c", labels={}))
    ran = await shoal(cluster, "delete", "pods", "-l", "app=web", "-o", "name")
    assert ran.out == "pod/a\npod/b\n"
    ran = await shoal(cluster, "delete", "pod", "nope")
    assert (ran.code, ran.err) == (1, 'error: pods "nope" not found\n')
    assert (await shoal(cluster, "delete", "pods", "-l", "app=web")).out == "No resources found\n"
    with pytest.raises(UsageError, match="give names, -l LABELS, --field-selector FIELDS or --all"):
        await shoal(cluster, "delete", "pods")


async def test_delete_by_field() -> None:
    cluster = FakeCluster(a_pod("a", phase="Failed"), a_pod("b"))
    ran = await shoal(cluster, "delete", "pods", "--field-selector=status.phase=Failed", "-o", "name")
    assert ran.out == "pod/a\n"


async def test_label_by_field() -> None:
    cluster = FakeCluster(a_pod("a", phase="Failed"), a_pod("b"))
    await shoal(cluster, "label", "pods", "--field-selector=status.phase=Failed", "seen=yes")
    assert [request.name for request in cluster.requests("patch")] == ["a"]


@pytest.fixture
def of_two(tmp_path: Path) -> str:
    path = tmp_path / "two.yaml"
    metas = ("{name: web}", "{name: db, namespace: prod}")
    path.write_text("---\n".join(f"apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {meta}\n" for meta in metas))
    return str(path)


FLAGS = {"scale": ["--replicas=5"], "patch": ["-p", "{}"], "wait": ["--for=create"], "describe": []}


@pytest.mark.parametrize("verb", FLAGS)
async def test_a_manifest_names_the_objects(verb: str, of_two: str) -> None:
    prod = a_replica_set("db")
    prod["metadata"]["namespace"] = "prod"
    cluster = FakeCluster(a_replica_set("web"), prod)
    cluster.changes = [[], []]
    ran = await shoal(cluster, verb, "-f", of_two, *FLAGS[verb])
    lines = [line for line in ran.out.splitlines() if line.startswith(("replicaset.apps/", "Name:"))]
    assert len(lines) == 2
    assert "web" in lines[0]
    assert "db" in lines[1]
    assert {"default", "prod"} <= {asked[2] for asked in cluster.asked}
    with pytest.raises(UsageError, match="-f names the objects"):
        await shoal(cluster, verb, "rs/web", "-f", of_two, *FLAGS[verb])


async def test_a_manifest_of_what_has_no_replicas_is_not_scaled(tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n")
    with pytest.raises(BadRequest, match="pods cannot be scaled"):
        await shoal(FakeCluster(a_pod()), "scale", "-f", str(path), "--replicas=1")


async def test_delete_tells_what_is_not_gone_in_time() -> None:
    class Stuck(FakeCluster):
        async def delete(
            self, resource: str, namespace: str, request: DeleteRequest, *, traceparent: str = ""
        ) -> msgspec.Raw:
            return raw(a_pod())

        async def watch(self, *args: object, **more: object):  # type: ignore[no-untyped-def]
            import asyncio

            await asyncio.get_running_loop().create_future()
            yield

    with pytest.raises(Failed):
        await shoal(Stuck(a_pod()), "delete", "pod", "web", "--timeout=50ms")


# --- scale, patch -------------------------------------------------------------------------------------------------------


async def test_scale() -> None:
    cluster = FakeCluster(a_replica_set("web"), a_replica_set("db"))
    ran = await shoal(cluster, "scale", "rs", "web", "db", "--replicas=5", "--current-replicas=2")
    assert ran.out == "replicaset.apps/web scaled\nreplicaset.apps/db scaled\n"
    assert cluster.requests("scale") == [
        ScaleRequest(name="web", replicas=5, current_replicas=2),
        ScaleRequest(name="db", replicas=5, current_replicas=2),
    ]
    with pytest.raises(UsageError, match="--replicas=COUNT is needed"):
        await shoal(cluster, "scale", "rs/web")
    with pytest.raises(BadRequest, match="pods cannot be scaled"):
        await shoal(cluster, "scale", "pod/web", "--replicas=1")


async def test_patch() -> None:
    cluster = FakeCluster(a_node())
    ran = await shoal(cluster, "patch", "node/n1", "-p", "spec: {unschedulable: true}")
    assert ran.out == "node/n1 patched\n"
    assert cluster.requests("patch")[0].patch == {"spec": {"unschedulable": True}}
    assert (await shoal(cluster, "patch", "node", "n1", "-p", "{}")).out == "node/n1 patched (no change)\n"
    with pytest.raises(BadRequest, match="neither JSON nor YAML"):
        await shoal(cluster, "patch", "node", "n1", "-p", "{")


# --- wait ---------------------------------------------------------------------------------------------------------------


async def test_wait_for_a_condition() -> None:
    cluster = FakeCluster(a_pod(status={"conditions": [{"type": "Ready", "status": "False"}]}))
    cluster.changes = [[WatchEvent(type="MODIFIED", object=raw(a_pod()))]]
    ran = await shoal(cluster, "wait", "--for=condition=ready", "pod/web")
    assert (ran.code, ran.out) == (0, "pod/web condition met\n")


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("condition=Ready=true", "condition met"),
        ("jsonpath={.status.phase}=Running", "condition met"),
        ("jsonpath='{.status.podIP}'", "condition met"),
        ("create", "created"),
    ],
)
async def test_wait_for_what_is_so_already(what: str, word: str) -> None:
    ran = await shoal(FakeCluster(a_pod()), "wait", f"--for={what.replace(chr(39), '')}", "pods", "-l", "app=web")
    assert ran.out == f"pod/web {word}\n"


async def test_wait_for_delete() -> None:
    cluster = FakeCluster(a_pod())
    cluster.changes = [[WatchEvent(type="DELETED", object=raw(a_pod()))]]
    assert (await shoal(cluster, "wait", "--for=delete", "pod/web")).out == "pod/web deleted\n"
    assert (await shoal(FakeCluster(), "wait", "--for=delete", "pods", "--all")).code == 0


async def test_a_timeout_of_nothing_looks_once() -> None:
    cluster = FakeCluster(a_pod("a"), a_pod("b", status={"conditions": []}))
    with pytest.raises(Failed):
        await shoal(cluster, "wait", "--for=condition=Ready", "pod/a", "pod/b", "--timeout=0")
    assert cluster.requests("watch") == []


async def test_wait_for_what_is_not_there() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await shoal(FakeCluster(), "wait", "--for=condition=Ready", "pod/nope")
    assert caught.group_contains(NotFound, match='pods "nope" not found')
    with pytest.raises(NotFound, match="no matching resources found"):
        await shoal(FakeCluster(), "wait", "--for=condition=Ready", "pods", "--all")
    with pytest.raises(UsageError, match="cannot wait for 'ready'"):
        await shoal(FakeCluster(), "wait", "--for=ready", "pod/web")


async def test_what_is_unavailable_ends_the_verb(manifest: str) -> None:
    cluster = FakeCluster()

    async def away(*_: object, **__: object) -> ApplyReply:
        raise Unavailable("nobody answers")

    cluster.apply = away  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await shoal(cluster, "apply", "-f", manifest, "-f", manifest)
