"""The whole way: words on a command line, requests, a real api, text and exit codes."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.integration.cli.conftest import Running, Shoal

from shoal.client import Client
from shoal.wire import DeleteRequest

pytestmark = pytest.mark.usefixtures("api")

MANIFEST = """\
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: main, image: shoal/busybox, command: [sleep, "1e3"], env: [{name: MODE, value: "yes"}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: db}
spec:
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: main, image: shoal/busybox}]}
"""

Follow = Callable[..., Awaitable[Running]]


async def test_apply_and_get(shoal: Shoal) -> None:
    ran = await shoal("apply", "-f", "-", stdin=MANIFEST)
    assert (ran.code, ran.out, ran.err) == (0, "pod/web created\nreplicaset.apps/db created\n", "")
    assert (await shoal("apply", "-f", "-", stdin=MANIFEST)).out == "pod/web unchanged\nreplicaset.apps/db unchanged\n"
    changed = MANIFEST.replace("replicas: 2", "replicas: 3")
    assert (await shoal("apply", "-f", "-", "--dry-run=server", stdin=changed)).out == (
        "pod/web unchanged (server dry run)\nreplicaset.apps/db configured (server dry run)\n"
    )
    assert (await shoal("apply", "-f", "-", stdin=changed)).out.endswith("replicaset.apps/db configured\n")
    lines = (await shoal("get", "rs")).out.splitlines()
    assert lines[0].split() == ["NAME", "DESIRED", "CURRENT", "READY", "AGE"]
    assert lines[1].split()[:4] == ["db", "3", "0", "0"]
    assert (await shoal("get", "pods", "-l", "app=db")).err == "No resources found in default namespace.\n"
    assert (await shoal("get", "pod/web", "-o", "jsonpath={.spec.containers[0].image}")).out == "shoal/busybox"


async def test_what_get_prints_can_be_applied(shoal: Shoal) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    for form in ("yaml", "json"):
        printed = (await shoal("get", "pods,rs", "-o", form)).out
        ran = await shoal("apply", "-f", "-", stdin=printed)
        assert (ran.code, ran.err) == (0, "")
        again = (await shoal("get", "pods,rs", "-o", form)).out
        assert '"1e3"' in again
        assert (await shoal("apply", "-f", "-", stdin=again)).out == "pod/web unchanged\nreplicaset.apps/db unchanged\n"


async def test_a_broken_manifest_changes_nothing(shoal: Shoal, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(MANIFEST.replace("replicas: 2", "replicas: two").replace("image: shoal/busybox, ", ""))
    ran = await shoal("apply", "-f", str(bad))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        f"error: {bad}:6: document 1: spec.containers[0].image: missing, expected text",
        f'error: {bad}:12: document 2: spec.replicas: found the text "two", expected a whole number',
    ]
    assert (await shoal("get", "all")).out == ""


async def test_namespaces(shoal: Shoal) -> None:
    pod = MANIFEST.partition("---")[0]
    ran = await shoal("apply", "-n", "prod", "-f", "-", stdin=pod)
    hint = "(`shoal create namespace prod` makes it)"
    sentence = f'Pod web: metadata.namespace: namespaces "prod" not found {hint}'
    assert (ran.code, ran.err) == (1, f"error: stdin: document 1, line 1: {sentence}\n")
    assert (await shoal("create", "-n", "prod", "-f", "-", stdin=pod)).err.endswith(
        'namespaces "prod" not found (`shoal create namespace prod` makes it)\n'
    )
    both = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: prod}}\n---\n{pod}"
    assert (
        await shoal("apply", "-n", "prod", "-f", "-", stdin=both)
    ).out == "namespace/prod created\npod/web created\n"
    assert (await shoal("-n", "prod", "get", "pods", "-o", "name")).out == "pod/web\n"
    lines = (await shoal("get", "pods", "-A")).out.splitlines()
    assert [line.split()[:2] for line in lines] == [["NAMESPACE", "NAME"], ["prod", "web"]]
    ran = await shoal(
        "apply", "-n", "test", "-f", "-", stdin=pod.replace("{name: web,", "{name: web, namespace: prod,")
    )
    assert ran.code == 1
    assert 'found "prod", expected "test"' in ran.err


async def test_create_scale_patch_delete(shoal: Shoal) -> None:
    assert (await shoal("create", "-f", "-", stdin=MANIFEST)).code == 0
    ran = await shoal("create", "-f", "-", stdin=MANIFEST)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == 'error: pods "web" already exists\nerror: replicasets "db" already exists\n'
    ran = await shoal("scale", "rs/db", "--replicas=4", "--current-replicas=3")
    assert ran.code == 1
    assert "3" in ran.err
    assert (await shoal("scale", "rs/db", "--replicas=4")).out == "replicaset.apps/db scaled\n"
    assert (await shoal("patch", "rs/db", "-p", '{"spec": {"replicas": 4}}')).out == (
        "replicaset.apps/db patched (no change)\n"
    )
    assert (await shoal("delete", "pod", "web")).out == 'pod "web" deleted\n'
    ran = await shoal("delete", "-f", "-", "--wait=false", stdin=MANIFEST)
    assert (ran.code, ran.out) == (1, 'replicaset.apps "db" deleted\n')
    assert ran.err == 'error: pods "web" not found\n'
    assert (await shoal("delete", "-f", "-", "--ignore-not-found", "--wait=false", stdin=MANIFEST)).code == 0


async def test_a_watch_tells_what_happens_until_it_is_interrupted(shoal: Shoal, follow: Follow, client: Client) -> None:
    watching = await follow("get", "pods", "-w", "-o", "name", "--output-watch-events")
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    assert await watching.line() == "ADDED pod/web"
    await client.delete("pods", "default", DeleteRequest(name="web"))
    assert await watching.line() == "DELETED pod/web"
    ran = await watching.interrupt()
    assert (ran.code, ran.out, ran.err) == (130, "", "")


async def test_wait_is_woken_by_the_change(shoal: Shoal, follow: Follow) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    waiting = await follow("wait", "--for=jsonpath={.spec.replicas}=5", "rs/db")
    await asyncio.sleep(0)
    await shoal("scale", "rs/db", "--replicas=5")
    assert await waiting.line() == "replicaset.apps/db condition met"
    assert await waiting.process.wait() == 0
    ran = await shoal("wait", "--for=condition=Ready", "pod/web", "--timeout=300ms")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: timed out waiting for the condition on pods/web\n"
    gone = await follow("wait", "--for=delete", "pod/web")
    await shoal("delete", "pod/web")
    assert await gone.line() == "pod/web deleted"


async def test_describe_and_events(shoal: Shoal) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    text = (await shoal("describe", "pod", "we")).out
    assert text.startswith("Name:             web\nNamespace:        default\n")
    assert "\nEvents:" in text
    assert (await shoal("describe", "ns", "default")).out.startswith("Name:         default\n")
    assert (await shoal("events")).code == 0


async def test_logs_and_exec_of_a_pod_that_does_not_run(shoal: Shoal) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    sentence = "error: pod web does not have a host assigned (it is not scheduled yet)\n"
    for words in (["logs", "web"], ["exec", "web", "--", "ls"], ["attach", "web"]):
        ran = await shoal(*words)
        assert (ran.code, ran.out, ran.err) == (1, "", sentence)
    assert (await shoal("logs", "nope")).err == 'error: pods "nope" not found\n'


async def test_completion_knows_the_names(shoal: Shoal) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    assert (await shoal("__complete", "get", "pods", "w")).out == "web\n"
    assert (await shoal("__complete", "scale", "rs/d")).out == "rs/db\n"
    assert (await shoal("__complete", "logs", "")).out == "web\n"
    assert (await shoal("__complete", "get", "pods", "-n", "d")).out == "default\n"


async def test_version(shoal: Shoal) -> None:
    [client, server] = (await shoal("version")).out.splitlines()
    assert client.replace("Client", "Server") == server  # one distribution; both are written v1.2.3
    ran = await shoal("version", "-o", "json")
    assert '"serverVersion": "v' in ran.out


async def test_a_pipe_whose_reader_leaves(shoal: Shoal, follow: Follow) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    watching = await follow("get", "pods", "-w")
    await watching.line()
    watching.process.stdout._transport.close()  # type: ignore[union-attr]
    await shoal("delete", "pod/web")
    assert await asyncio.wait_for(watching.process.wait(), 10) == 141
