"""The supervisor, as the daemon that it is, over tiny programs."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shoal.errors import Unavailable
from shoal.local import processes
from shoal.local.control import Control, launch, leftovers
from shoal.local.program import Program, Report, State
from shoal.local.supervisor import BACKOFF_MAX_S, backoff_s, rotate

READY = "from shoal.local.notify import ready; ready()"
ENV = {"PATH": os.environ["PATH"]}


def program(name: str, code: str = f"{READY}; import time; time.sleep(100)", **options: object) -> Program:
    return Program(name=name, argv=[sys.executable, "-c", code], env=ENV, **options)  # type: ignore[arg-type]


def shell(name: str, script: str, **options: object) -> Program:
    return Program(name=name, argv=["/bin/sh", "-c", script], env=ENV, **{"ready": "", **options})  # type: ignore[arg-type]


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    with tempfile.TemporaryDirectory(prefix="sup") as directory:  # a short path: sockets are in it
        found = await launch(Path(directory))
        yield found
        await found.shutdown()
        assert found.process() is None


async def until(control: Control, name: str, **wanted: object) -> Report:
    """The first report of that program whose fields are as wanted; pytest's own timeout bounds it."""
    while True:
        report = (await control.status())[name]
        if all(getattr(report, field) == value for field, value in wanted.items()):
            return report
        await asyncio.sleep(0.01)


async def test_it_runs_on_uvloop(control: Control) -> None:
    process = control.process()
    assert process is not None
    assert "/uvloop/" in Path(f"/proc/{process.pid}/maps").read_text()


async def test_ready_is_what_the_process_says(control: Control) -> None:
    gate = control.directory / "gate"
    code = f"import os,time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n{READY}\ntime.sleep(100)"
    await control.add([program("a", code)])

    await until(control, "a", state=State.STARTING)
    with pytest.raises(Unavailable, match="a is starting"):
        await control.wait(seconds=0.1)
    gate.touch()
    assert (await control.wait(["a"], seconds=20))["a"].state is State.READY


async def test_what_is_needed_starts_first_and_stops_last(control: Control) -> None:
    order = control.directory / "order"
    script = (
        'echo "start $0" >> {0}; trap \'echo "stop $0" >> {0}; exit 0\' TERM; : > {1}; while :; do sleep 0.01; done'
    )
    names = ("c", "b", "a")
    programs = [
        shell(
            name,
            script.format(order, control.directory / f"up-{name}").replace("$0", name),
            ready=f"file:{control.directory / f'up-{name}'}",
            needs=[names[i - 1]] if i else [],
        )
        for i, name in enumerate(names)
    ]
    await control.add(reversed(programs))
    await control.wait(seconds=20)
    await control.stop([])

    lines = order.read_text().split("\n")
    assert lines[:3] == ["start c", "start b", "start a"]
    assert lines[3:6] == ["stop a", "stop b", "stop c"]


async def test_what_dies_is_started_again(control: Control) -> None:
    await control.add([program("a")])
    first = (await control.wait(seconds=20))["a"]

    os.kill(first.process.pid, signal.SIGKILL)
    second = await until(control, "a", restarts=1, state=State.READY)

    assert second.process != first.process
    assert second.exit == -signal.SIGKILL


async def test_what_is_killed_and_held_stays_down_until_started(control: Control) -> None:
    await control.add([program("a")])
    await control.wait(seconds=20)

    await control.kill(["a"], hold=True)
    await until(control, "a", state=State.STOPPED)
    with pytest.raises(Unavailable, match="a is stopped"):
        await control.wait(seconds=0.3)
    await control.start(["a"])
    assert (await control.wait(seconds=20))["a"].restarts == 0


async def test_a_program_that_must_not_restart_does_not(control: Control) -> None:
    await control.add([shell("a", "exit 3", restart=False)])

    assert (await until(control, "a", state=State.STOPPED, exit=3)).restarts == 0


async def test_stop_during_backoff_is_prompt_and_start_ends_it(control: Control) -> None:
    mark = control.directory / "mark"
    await control.add([shell("a", f"[ -e {mark} ] && exec sleep 100; exit 1")])
    while (await control.status())["a"].restarts < 6:  # by now each pause is seconds long
        await asyncio.sleep(0.02)

    await control.stop(["a"])
    await until(control, "a", state=State.STOPPED)
    mark.touch()
    began = asyncio.get_running_loop().time()
    await control.start(["a"])
    await until(control, "a", state=State.READY)
    assert asyncio.get_running_loop().time() - began < 2


async def test_what_ignores_sigterm_is_killed_in_time(control: Control) -> None:
    mark = control.directory / "trap-stands"
    script = f"trap '' TERM; : > {mark}; while :; do sleep 0.05; done"
    await control.add([shell("a", script, ready=f"file:{mark}", stop_seconds=0.2)])
    await control.wait(seconds=20)

    await control.stop(["a"])
    assert (await until(control, "a", state=State.STOPPED)).exit == -signal.SIGKILL


async def test_a_command_that_is_not_there_is_reported_and_tried_again(control: Control) -> None:
    await control.add([Program(name="a", argv=["/nonexistent/program"], env=ENV)])

    await until(control, "a", exit=127)


async def test_a_name_added_again_is_replaced(control: Control) -> None:
    await control.add([shell("a", "exec sleep 100")])
    first = (await control.wait(seconds=20))["a"]
    await control.add([shell("a", "exec sleep 200")])
    second = (await control.wait(seconds=20))["a"]

    assert second.process != first.process
    assert not processes.alive(first.process)
    await control.remove(["a"])
    assert await control.status() == {}


async def test_prepare_runs_before_each_start(control: Control) -> None:
    count = control.directory / "count"
    await control.add([shell("a", "exec sleep 100", prepare=["/bin/sh", "-c", f"echo x >> {count}"])])
    await control.wait(seconds=20)
    await control.kill(["a"])
    await until(control, "a", restarts=1, state=State.READY)

    assert count.read_text() == "x\nx\n"


async def test_orphans_come_to_the_supervisor_and_are_reaped(control: Control) -> None:
    """An engine's shims are orphans by design; an init that does not reap would keep them as zombies for ever."""
    file = control.directory / "orphan"
    await control.add([shell("a", f"(sleep 0.3 & echo $! > {file}); exec sleep 100")])
    await control.wait(seconds=20)
    while not file.exists() or not file.read_text().strip():
        await asyncio.sleep(0.01)
    pid = int(file.read_text())

    while Path(f"/proc/{pid}").exists():  # a zombie has one
        await asyncio.sleep(0.02)


async def test_a_log_is_kept_per_program_and_names_why_it_is_not_ready(control: Control) -> None:
    await control.add([shell("x/y", "echo out; echo no luck >&2; exit 1", ready="notify")])
    await until(control, "x/y", exit=1)

    with pytest.raises(Unavailable, match="no luck"):
        await control.wait(seconds=0.1)
    assert control.log("x/y").read_text().startswith("out\nno luck\n")


async def test_children_of_a_killed_supervisor_are_found() -> None:
    with tempfile.TemporaryDirectory(prefix="sup") as name:
        control = await launch(Path(name))
        await control.add([shell("a", "exec sleep 100")])
        child = (await control.wait(seconds=20))["a"].process
        supervisor = control.process()
        assert supervisor is not None
        processes.send(supervisor, signal.SIGKILL)
        assert processes.wait_gone(supervisor, 5)

        assert control.process() is None
        assert leftovers(Path(name)) == {"a": child}
        processes.end(leftovers(Path(name)).values(), seconds=5)
        assert leftovers(Path(name)) == {}


async def test_shutdown_leaves_no_process_and_no_socket() -> None:
    with tempfile.TemporaryDirectory(prefix="sup") as name:
        control = await launch(Path(name))
        await control.add([program("a"), shell("b", "exec sleep 100", needs=["a"])])
        known = [r.process for r in (await control.wait(seconds=20)).values()]
        await control.shutdown()

        assert [p for p in known if processes.alive(p)] == []
        assert sorted(p.name for p in Path(name).iterdir()) == ["logs", "n"]
        assert list((Path(name) / "n").iterdir()) == []


def test_backoff_doubles_to_its_bound() -> None:
    assert [backoff_s(n) for n in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert backoff_s(100) == backoff_s(1000) == BACKOFF_MAX_S


def test_a_log_is_cut_and_its_end_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab") as writer:
        writer.write(b"old" * 100 + b"new" * 10)
        writer.flush()
        rotate(log, limit=30)
        writer.write(b"after")

    assert log.read_bytes() == b"after"
    assert (tmp_path / "a.log.1").read_bytes() == b"new" * 10
    rotate(log, limit=30)
    assert log.read_bytes() == b"after"
