"""label, annotate, edit, get -f, explain, as a person types them, against a real api."""

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.integration.cli.conftest import Shoal
from tests.integration.cli.test_cli import MANIFEST

from shoal.client import Client
from shoal.wire import PatchRequest

pytestmark = pytest.mark.usefixtures("api")

Editor = Callable[..., str]


@pytest.fixture
def editor(tmp_path: Path) -> Editor:
    """A program that edits by sed; each file that it is given is kept beside it (1, 2, ...)."""

    def make(*scripts: str) -> str:
        file = tmp_path / "editor"
        runs = "".join(f'  {n}) sed -i -e {script!r} "$1";;\n' for n, script in enumerate(scripts, 1))
        file.write_text(
            f'#!/bin/sh\nn=$(($(ls {tmp_path} | grep -c "^[0-9]*$") + 1)); cp "$1" {tmp_path}/$n\ncase $n in\n{runs}esac\n'
        )
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return str(file)

    return make


async def labels(shoal: Shoal, what: str = "pod/web", field: str = "labels") -> dict[str, str]:
    found = msgspec.json.decode((await shoal("get", what, "-o", "json")).out)["metadata"].get(field, {})
    return {key: value for key, value in found.items() if "/" not in key}


async def test_label(shoal: Shoal) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    assert (await shoal("label", "pod", "web", "tier=front", "app-")).out == "pod/web labeled\n"
    assert await labels(shoal) == {"tier": "front"}
    assert (await shoal("label", "pod/web", "tier=front")).out == "pod/web not labeled\n"
    ran = await shoal("label", "pod/web", "tier=back")
    assert (ran.code, ran.out, ran.err) == (
        1, "", "error: 'tier' already has a value (front), and --overwrite is false\n"
    )  # fmt: skip
    assert (await shoal("label", "--overwrite", "pod/web", "tier=back")).out == "pod/web labeled\n"
    assert (await shoal("label", "pod/web", "--list")).out == "Listing labels for pod/web:\n tier=back\n"
    assert (await shoal("label", "pods", "-l", "tier=back", "tier-")).out == "pod/web unlabeled\n"
    ran = await shoal("label", "pods", "--all", "tier-")
    assert (ran.out, ran.err) == ("pod/web not labeled\n", 'label "tier" not found.\n')
    assert await labels(shoal) == {}


async def test_a_label_that_can_be_none_is_refused_and_a_dry_run_changes_nothing(shoal: Shoal) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    ran = await shoal("label", "pod/web", "tier=no spaces")
    assert (ran.code, ran.out) == (1, "")
    assert "no spaces" in ran.err
    assert (await shoal("label", "pod/web", "a=b", "--dry-run=server")).out == "pod/web labeled (server dry run)\n"
    assert (await shoal("label", "pod/web", "a=b", "--dry-run")).out == "pod/web labeled (dry run)\n"
    assert await labels(shoal) == {"app": "web"}
    ran = await shoal("label", "pods", "web", "a=b", "--resource-version=1")
    assert ran.code == 1
    assert (await shoal("label", "pods", "nope", "a=b")).err == 'error: pods "nope" not found\n'
    assert (await shoal("label", "pods", "-l", "x=y", "a=b")).err == "error: no resources found\n"
    assert "KEY=VALUE" in (await shoal("label", "pods", "web")).err


async def test_annotate(shoal: Shoal) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    ran = await shoal("annotate", "-f", "-", "note=by hand: a=b", stdin=MANIFEST)
    assert (ran.code, ran.out) == (0, "pod/web annotated\nreplicaset.apps/db annotated\n")
    assert await labels(shoal, "rs/db", "annotations") == {"note": "by hand: a=b"}
    assert (await shoal("annotate", "pod/web", "note-", "-o", "name")).out == "pod/web\n"
    assert await labels(shoal, "pod/web", "annotations") == {}


async def test_edit(shoal: Shoal, editor: Editor, tmp_path: Path) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    ran = await shoal("edit", "rs/db", EDITOR=editor("s/replicas: 2/replicas: 4/"))
    assert (ran.code, ran.out, ran.err) == (0, "replicaset.apps/db edited\n", "")
    assert (await shoal("get", "rs/db", "-o", "jsonpath={.spec.replicas}")).out == "4"
    shown = (tmp_path / "1").read_text()
    assert shown.startswith("# Edit the object below.")
    assert "status:" not in shown
    ran = await shoal("edit", "rs/db", EDITOR="true")
    assert (ran.code, ran.out, ran.err) == (0, "", "Edit cancelled, no changes made.\n")
    ran = await shoal("edit", "rs", "db", "-o", "json", KUBE_EDITOR="sed -i 's/: 4/: 5/'", EDITOR="false")
    assert ran.out == "replicaset.apps/db edited\n"
    ran = await shoal("edit", "rs/db", EDITOR="false")
    assert (ran.code, ran.out) == (1, "")
    assert "the editor 'false' ended with 1" in ran.err
    assert (await shoal("edit", "rs/nope", EDITOR="false")).err == 'error: replicasets "nope" not found\n'


async def test_what_is_refused_comes_back_with_the_reason(shoal: Shoal, editor: Editor, tmp_path: Path) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    corrections = ("s/replicas: 2/replicas: two/", "s/replicas: two/replicas: [/", "s/replicas: .*/replicas: 3/")
    ran = await shoal("edit", "rs/db", EDITOR=editor(*corrections))
    assert (ran.code, ran.out, ran.err) == (0, "replicaset.apps/db edited\n", "")
    second, third = (tmp_path / "2").read_text(), (tmp_path / "3").read_text()
    assert "# replicaset.apps/db was not accepted: " in second
    assert "replicas: two" in second  # what was typed is there still
    assert "# replicaset.apps/db was not accepted: " in third
    assert (await shoal("get", "rs/db", "-o", "jsonpath={.spec.replicas}")).out == "3"


async def test_an_edit_that_is_given_up_is_kept(shoal: Shoal, editor: Editor) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    ran = await shoal("edit", "rs/db", EDITOR=editor("s/replicas: 2/replicas: two/"))
    assert (ran.code, ran.out) == (1, "")
    assert "error: replicaset.apps/db was not accepted: " in ran.err
    kept = Path(ran.err.rpartition("A copy of your changes is in ")[2].strip())
    assert "replicas: two" in kept.read_text()
    kept.unlink()
    assert (await shoal("get", "rs/db", "-o", "jsonpath={.spec.replicas}")).out == "2"


async def test_who_was_faster_is_not_undone(shoal: Shoal, client: Client, tmp_path: Path) -> None:
    """The object changes while it is edited: the changes are shown on top of the newest, and nothing of it is lost."""
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    opened, go_on = tmp_path / "opened", tmp_path / "go-on"
    file = tmp_path / "editor"
    file.write_text(
        f'#!/bin/sh\nif [ -e {go_on} ]; then cp "$1" {tmp_path}/second; exit; fi\n'
        f'sed -i "s/replicas: 2/replicas: 6/" "$1"; : > {opened}; while [ ! -e {go_on} ]; do sleep 0.01; done\n'
    )
    file.chmod(0o755)

    editing = asyncio.ensure_future(shoal("edit", "rs/db", EDITOR=str(file)))
    async with asyncio.timeout(20):
        while not opened.exists():
            await asyncio.sleep(0.01)
    await client.patch(
        "replicasets", "default", PatchRequest(name="db", patch={"metadata": {"labels": {"by": "them"}}})
    )
    go_on.touch()
    ran = await editing
    assert (ran.code, ran.out) == (0, "replicaset.apps/db edited\n")
    assert "was changed by somebody else" in (tmp_path / "second").read_text()
    assert await labels(shoal, "rs/db") == {"app": "db", "by": "them"}
    assert (await shoal("get", "rs/db", "-o", "jsonpath={.spec.replicas}")).out == "6"


async def test_get_what_a_manifest_names(shoal: Shoal) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    assert (await shoal("get", "-f", "-", "-o", "name", stdin=MANIFEST)).out == "pod/web\nreplicaset.apps/db\n"
    await shoal("delete", "pod/web")
    ran = await shoal("get", "-f", "-", stdin=MANIFEST)
    assert (ran.code, ran.err) == (1, 'error: pods "web" not found\n')
    assert ran.out.splitlines()[1].split()[0] == "db"
    one = MANIFEST.partition("---")[2]
    assert msgspec.json.decode((await shoal("get", "-f", "-", "-o", "json", stdin=one)).out)["kind"] == "ReplicaSet"
    assert "-f names the objects" in (await shoal("get", "pods", "-f", "-", stdin=one)).err


async def test_explain(shoal: Shoal) -> None:
    ran = await shoal("explain", "rs.spec.template.spec.containers.imagePullPolicy")
    assert ran.out == (
        "GROUP:      apps\nKIND:       ReplicaSet\nVERSION:    v1\n\nFIELD: imagePullPolicy <string>\n\n"
        "ENUM:\n  Always\n  IfNotPresent\n  Never\n\n"
    )
    lines = (await shoal("explain", "pod", "--recursive")).out.splitlines()
    assert "  metadata\t<ObjectMeta> -required-" in lines
    assert "      image\t<string> -required-" in lines
    ran = await shoal("explain", "pod.spec.contaners")
    assert (ran.out, ran.err) == ("", "error: field 'spec.contaners' does not exist (did you mean containers?)\n")


async def test_completion_of_the_new_verbs(shoal: Shoal) -> None:
    await shoal("apply", "-f", "-", stdin=MANIFEST)
    assert (await shoal("__complete", "edit", "rs/d")).out == "rs/db\n"
    assert (await shoal("__complete", "label", "pods", "w")).out == "web\n"
    assert (await shoal("__complete", "annotate", "--over")).out == "--overwrite\n"
    assert (await shoal("__complete", "explain", "po")).out == "pod\n"
