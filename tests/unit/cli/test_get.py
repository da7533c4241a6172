"""`get`: the exact text that kubectl's users know."""

import msgspec
import pytest
from tests.unit.cli.fake import FakeCluster, a_node, a_pod, a_replica_set, an_event, raw, shoal

from shoal.cli.arguments import UsageError
from shoal.errors import Invalid, NotFound
from shoal.wire import WatchEvent


def lines(text: str) -> list[str]:
    return text.splitlines()


async def test_a_table_lines_up() -> None:
    cluster = FakeCluster(a_pod("web"), a_pod("a-long-name-0", phase="Pending", status={"containerStatuses": []}))
    ran = await shoal(cluster, "get", "pods")
    assert ran.out == (
        "NAME            READY   STATUS    RESTARTS   AGE\n"
        "web             1/1     Running   0          5m\n"
        "a-long-name-0   0/1     Pending   0          5m\n"
    )
    assert (ran.code, ran.err) == (0, "")


async def test_wide_and_all_namespaces() -> None:
    cluster = FakeCluster(a_pod("web"), a_pod("db", namespace="prod"))
    ran = await shoal(cluster, "get", "po", "-A", "-o", "wide")
    assert ran.out == (
        "NAMESPACE   NAME   READY   STATUS    RESTARTS   AGE   IP           NODE   NOMINATED NODE   READINESS GATES\n"
        "default     web    1/1     Running   0          5m    10.208.0.2   n1     <none>           <none>\n"
        "prod        db     1/1     Running   0          5m    10.208.0.2   n1     <none>           <none>\n"
    )
    assert cluster.asked == [("list", "pods", None, ("", ""))]


async def test_labels() -> None:
    cluster = FakeCluster(a_pod("web", labels={"tier": "front", "app": "web"}), a_pod("db", labels={}))
    ran = await shoal(cluster, "get", "pods", "--show-labels", "-L", "app", "--no-headers")
    assert ran.out == (
        "web   1/1   Running   0   5m   web      app=web,tier=front\ndb    1/1   Running   0   5m   <none>   <none>\n"
    )


async def test_several_kinds() -> None:
    ran = await shoal(FakeCluster(a_pod(), a_replica_set()), "get", "all")
    assert ran.out == (
        "NAME      READY   STATUS    RESTARTS   AGE\n"
        "pod/web   1/1     Running   0          5m\n"
        "\n"
        "NAME                  DESIRED   CURRENT   READY   AGE\n"
        "replicaset.apps/web   2         2         2       5m\n"
    )


async def test_selectors_go_to_the_api() -> None:
    cluster = FakeCluster(a_pod("web"), a_pod("db", labels={"app": "db"}))
    ran = await shoal(
        cluster, "get", "pods", "-l", "app=web", "--field-selector=status.phase=Running", "-o", "name", "-n", "default"
    )
    assert ran.out == "pod/web\n"
    assert cluster.asked == [("list", "pods", "default", ("app=web", "status.phase=Running"))]


async def test_nothing_found_is_said_on_stderr() -> None:
    ran = await shoal(FakeCluster(), "get", "pods")
    assert (ran.code, ran.out, ran.err) == (0, "", "No resources found in default namespace.\n")
    assert (await shoal(FakeCluster(), "get", "pods,rs", "-A")).err == "No resources found\n"
    assert (await shoal(FakeCluster(), "get", "nodes")).err == "No resources found\n"
    assert (await shoal(FakeCluster(), "get", "pods", "--ignore-not-found")).err == ""


async def test_names_that_are_not_there_fail_after_what_is_there() -> None:
    ran = await shoal(FakeCluster(a_pod()), "get", "pod", "web", "nope", "--no-headers")
    assert (ran.code, ran.out) == (1, "web   1/1   Running   0   5m\n")
    assert ran.err == 'error: pods "nope" not found\n'
    ran = await shoal(FakeCluster(), "get", "pod", "nope", "--ignore-not-found")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


async def test_one_object_is_itself_many_are_a_list() -> None:
    cluster = FakeCluster(a_pod("web"), a_pod("db"))
    one = msgspec.json.decode((await shoal(cluster, "get", "pod/web", "-o", "json")).out)
    assert one == a_pod("web")
    many = msgspec.json.decode((await shoal(cluster, "get", "pods", "-o", "json")).out)
    assert many == {
        "apiVersion": "v1",
        "kind": "List",
        "items": [a_pod("web"), a_pod("db")],
        "metadata": {"resourceVersion": ""},
    }
    assert (await shoal(cluster, "get", "ns", "-o", "yaml")).out == (
        'apiVersion: v1\nitems: []\nkind: List\nmetadata:\n  resourceVersion: ""\n'
    )


async def test_other_forms() -> None:
    cluster = FakeCluster(a_pod("web"), a_pod("db"))
    assert (await shoal(cluster, "get", "pods", "-o", "jsonpath={.items[*].metadata.name}")).out == "web db"
    assert (await shoal(cluster, "get", "pod", "web", "-o", "jsonpath={.status.podIP}")).out == "10.208.0.2"
    ran = await shoal(cluster, "get", "pods", "-o", "custom-columns=NAME:.metadata.name,WHY:.status.reason")
    assert ran.out == "NAME   WHY\nweb    <none>\ndb     <none>\n"


async def test_sort() -> None:
    cluster = FakeCluster(a_pod("b"), a_pod("a"), a_pod("c"))
    ran = await shoal(cluster, "get", "pods", "--sort-by={.metadata.name}", "-o", "name")
    assert lines(ran.out) == ["pod/a", "pod/b", "pod/c"]


async def test_nodes_show_their_sandbox() -> None:
    ran = await shoal(FakeCluster(a_node()), "get", "nodes", "-o", "wide")
    assert lines(ran.out)[0].split("  ")[-1].strip() == "SANDBOX"
    assert lines(ran.out)[1].endswith("docker://24.0.7     fast")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pods", "web", "-l", "a=b"], "a name and a selector exclude each other"),
        (["pods,rs", "-w"], "watch one kind of object, or one object of it"),
        (["pod", "web", "-A"], "an object cannot be named across all namespaces"),
        (["pods", "-o", "custom-columns=NAME"], "custom-columns are written HEAD:PATH"),
        (["pods", "-o", "xml"], "'xml' is not one of wide, json, yaml, name, jsonpath"),
    ],
)
async def test_words_that_cannot_be(words: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        await shoal(FakeCluster(a_pod()), "get", *words)


async def test_the_size_of_pages_is_taken_and_is_the_apis_matter() -> None:
    assert (await shoal(FakeCluster(a_pod()), "get", "pods", "--chunk-size=1", "-o", "name")).out == "pod/web\n"


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--api-group=apps"], ["replicasets.apps"]),
        (["--api-group="], ["pods", "nodes", "namespaces", "events"]),
        (["--verbs=delete,list"], ["pods", "replicasets.apps", "nodes", "namespaces"]),
        (["--verbs=create"], ["pods", "replicasets.apps", "namespaces"]),
        (["--namespaced=false"], ["nodes", "namespaces"]),
    ],
)
async def test_kinds_by_group_verb_and_namespace(flags: list[str], names: list[str]) -> None:
    assert (await shoal(FakeCluster(), "api-resources", "-o", "name", *flags)).out.splitlines() == names


async def test_the_verbs_of_each_kind() -> None:
    lines = (await shoal(FakeCluster(), "api-resources", "-o", "wide", "--no-headers")).out.splitlines()
    verbs = {line.split()[0]: next(word for word in line.split() if ",list" in word) for line in lines}
    assert verbs["pods"] == "create,delete,get,list,patch,watch"
    assert verbs["nodes"] == "delete,get,list,patch,watch"
    assert verbs["events"] == "get,list,watch"


async def test_an_unknown_kind() -> None:
    with pytest.raises(Invalid, match="did you mean pods"):
        await shoal(FakeCluster(), "get", "pds")


# --- watch --------------------------------------------------------------------------------------------------------------


class Enough(Exception):
    """Ends a watch that would go on for ever."""


class Watched(FakeCluster):
    async def list(self, *args: object, **more: object):  # type: ignore[no-untyped-def]
        if self.requests("watch") and not self.changes:
            raise Enough
        return await super().list(*args, **more)  # type: ignore[arg-type]

    async def watch(self, *args: object, **more: object):  # type: ignore[no-untyped-def]
        async for event in super().watch(*args, **more):  # type: ignore[arg-type]
            yield event
        if not self.changes:
            raise Enough


def changed(kind: str, obj: dict[str, object]) -> WatchEvent:
    return WatchEvent(type=kind, object=raw(obj))


async def watched(cluster: Watched, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    from tests.unit.cli.fake import NOW

    from shoal.cli.context import Context
    from shoal.cli.loading import load

    parser, module = load(words[0], words[0])
    context = Context({}, cluster=cluster, now=lambda: NOW)
    with pytest.raises(Enough):
        await module.run(context, parser.parse(words[1:]))
    return capsys.readouterr().out


async def test_a_watch_goes_on_under_the_same_columns(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Watched(a_pod("web"))
    cluster.changes = [
        [
            changed("ADDED", a_pod("a-long-name", phase="Pending", status={"containerStatuses": []})),
            changed("MODIFIED", a_pod("a-long-name")),
            changed("DELETED", a_pod("web")),
        ]
    ]
    assert await watched(cluster, capsys, "get", "pods", "-w") == (
        "NAME   READY   STATUS    RESTARTS   AGE\n"
        "web    1/1     Running   0          5m\n"
        "a-long-name   0/1     Pending   0          5m\n"
        "a-long-name   1/1     Running   0          5m\n"
        "web           1/1     Running   0          5m\n"
    )
    assert cluster.requests("watch") == [("7", "", "")]


async def test_a_watch_tells_only_changes_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Watched(a_pod("web"))
    cluster.changes = [[changed("DELETED", a_pod("web"))]]
    out = await watched(cluster, capsys, "get", "pod/web", "--watch-only", "-o", "name", "--output-watch-events")
    assert out == "DELETED pod/web\n"
    assert cluster.requests("watch") == [("7", "", "metadata.name=web")]


async def test_a_gap_is_filled_without_telling_twice(capsys: pytest.CaptureFixture[str]) -> None:
    from shoal.errors import Expired

    class Gap(Watched):
        async def watch(self, *args: object, **more: object):  # type: ignore[no-untyped-def]
            yield changed("MODIFIED", a_pod("web"))
            if "pod/new" not in (known := [f"pod/{o['metadata']['name']}" for o in self.objects]):
                assert known == ["pod/web"]
                self.objects.append(a_pod("new"))
                raise Expired("too long ago")
            raise Enough

    cluster = Gap(a_pod("web"))
    cluster.changes = [[]]
    out = await watched(cluster, capsys, "get", "pods", "-w", "-o", "name")
    assert lines(out) == ["pod/web", "pod/web", "pod/new", "pod/web"]


async def test_watching_what_is_not_there() -> None:
    with pytest.raises(NotFound, match='pods "nope" not found'):
        await shoal(FakeCluster(), "get", "pod", "nope", "-w")


async def test_events(capsys: pytest.CaptureFixture[str]) -> None:
    happened = [
        an_event("Started", "it started", lastTimestamp="2020-01-01T00:04:50Z"),
        an_event("Failed", "it failed", type="Warning"),
    ]
    cluster = Watched(*[{**msgspec.to_builtins(e), "kind": "Event", "apiVersion": "v1"} for e in happened])
    ran = await shoal(cluster, "events", "--for", "pod/web")
    assert ran.out == (
        "LAST SEEN   TYPE      REASON    OBJECT    MESSAGE\n"
        "4m59s       Warning   Failed    pod/web   it failed\n"
        "10s         Normal    Started   pod/web   it started\n"
    )
    assert cluster.requests("list") == [("", "involvedObject.kind=Pod,involvedObject.name=web")]
    ran = await shoal(cluster, "events", "--types=Warning", "--no-headers")
    assert ran.out == "4m59s   Warning   Failed   pod/web   it failed\n"
    assert (await shoal(FakeCluster(), "events")).err == "No events found in default namespace.\n"
