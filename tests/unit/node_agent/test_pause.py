"""The sandbox's program: taken apart as a file, its machine code read back, and run where that can be done."""

import io
import os
import platform
import shutil
import struct
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from shoal.node_agent.runtime import pause

MACHINES = {"x86_64": 62, "aarch64": 183}
BASE = 0x400000


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_the_file_is_one_static_executable(machine: str) -> None:
    program = pause.elf(machine)
    ident, kind, number, _, entry, headers, sections, *_ = struct.unpack_from("<16sHHIQQQ", program)
    assert ident[:7] == b"\x7fELF\x02\x01\x01"
    assert (kind, number, headers, sections) == (2, MACHINES[machine], 64, 0)
    load, flags, offset, address, _, in_file, in_memory, align = struct.unpack_from("<IIQQQQQQ", program, 64)
    assert (load, flags, offset, address) == (1, 5, 0, BASE), "readable and executable, never writable"
    assert in_file == in_memory == len(program) < 1024
    assert address % align == offset % align == 0, "loads where a page is 64 KiB, too"
    assert BASE + 64 + 56 <= entry < BASE + len(program)
    assert entry % 4 == 0


def calls_x86_64(program: bytes) -> list[int]:
    """Numbers of the system calls: each `mov eax, imm32` in the code."""
    code = program[struct.unpack_from("<Q", program, 24)[0] - BASE :]
    found, at = [], 0
    while at < len(code):
        match code[at]:
            case 0xB8:
                found.append(struct.unpack_from("<I", code, at + 1)[0])
                at += 5
            case 0xBF | 0xBE:
                at += 5
            case 0x41:
                at += 6
            case 0x83:
                at += 4
            case _:
                at += 2
    return found


def calls_aarch64(program: bytes) -> list[int]:
    """Each `movz x8, number`."""
    code = program[struct.unpack_from("<Q", program, 24)[0] - BASE :]
    words = struct.unpack(f"<{len(code) // 4}I", code)
    return [(w >> 5) & 0xFFFF for w in words if w & 0xFFE0001F == 0xD2800008]


def test_it_makes_the_calls_that_it_is_for_and_no_other() -> None:
    """rt_sigaction, unshare, capset, then pause (ppoll where there is none): no exec, no file, no socket."""
    assert calls_x86_64(pause.elf("x86_64")) == [13, 272, 126, 34, 60]
    assert calls_aarch64(pause.elf("aarch64")) == [134, 97, 91, 73, 93]


def test_the_jumps_lead_where_they_should_x86_64() -> None:
    program = pause.elf("x86_64")
    code = program[struct.unpack_from("<Q", program, 24)[0] - BASE :]

    def call(number: int) -> int:
        return code.index(b"\xb8" + struct.pack("<I", number))

    stay = code.index(b"\x83\x3c\x24\x01\x75") + 4
    failed = code.index(b"\x85\xc0\x75") + 2
    sleep = code.rindex(b"\xeb")
    assert stay + 2 + code[stay + 1] == call(126), "with an argument: on to dropping rights"
    assert failed + 2 + code[failed + 1] == call(60), "unshare refused: exit"
    assert sleep + 2 + code[sleep + 1] - 256 == call(34), "woken: sleep again"


def test_the_jumps_lead_where_they_should_aarch64() -> None:
    program = pause.elf("aarch64")
    code = program[struct.unpack_from("<Q", program, 24)[0] - BASE :]
    words = struct.unpack(f"<{len(code) // 4}I", code)

    def call(number: int) -> int:
        return words.index(0xD2800000 | number << 5 | 8)

    stay = next(i for i, w in enumerate(words) if w & 0xFF00001F == 0x54000001)
    failed = next(i for i, w in enumerate(words) if w >> 24 == 0xB5)
    sleep = next(i for i, w in enumerate(words) if w >> 26 == 0b000101)
    assert stay + ((words[stay] >> 5) & 0x7FFFF) == call(91)
    assert failed + ((words[failed] >> 5) & 0x7FFFF) == call(93)
    assert sleep + (words[sleep] & 0x3FFFFFF) - (1 << 26) == call(73)


def test_both_names_of_a_machine_mean_it() -> None:
    assert pause.elf("amd64") == pause.elf("x86_64")
    assert pause.elf("arm64") == pause.elf("aarch64")
    assert not pause.supported("riscv64")


def test_the_image_holds_the_program_and_its_tag_follows_from_it() -> None:
    reference, archive = pause.image("x86_64")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.getmember("sandbox")
        content = tar.extractfile(member)
        assert content is not None
        assert content.read() == pause.elf("x86_64")
        assert member.mode == 0o755
    assert reference != pause.image("aarch64")[0]
    assert pause.image("x86_64") == (reference, archive), "the same bytes each time"


@pytest.mark.skipif(platform.system() != "Linux" or platform.machine() != "x86_64", reason="needs Linux on x86-64")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes a network namespace")
def test_it_runs_leaves_the_network_and_keeps_no_right(tmp_path: Path) -> None:
    program = tmp_path / "sandbox"
    program.write_bytes(pause.elf("x86_64"))
    program.chmod(0o755)
    with subprocess.Popen([program]) as process:
        try:
            status = wait_until_asleep(process.pid)
            assert network_of(process.pid) != network_of(os.getpid())
            assert status["CapEff"] == status["CapPrm"] == status["CapInh"] == "0000000000000000"
            assert int(status["SigIgn"], 16) >> 16 & 1, "SIGCHLD is ignored: orphans are reaped"
        finally:
            process.kill()


def network_of(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def wait_until_asleep(pid: int) -> dict[str, str]:
    """Until it is in pause(2): the kernel names what a process sleeps in."""
    for _ in range(1_000_000):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {k: v.strip() for k, _, v in (line.partition(":") for line in lines)}
        if status["State"].startswith("S") and status["CapEff"] == "0000000000000000":
            return status
    raise AssertionError(status)


@pytest.mark.skipif(platform.system() != "Linux" or platform.machine() != "x86_64", reason="needs Linux on x86-64")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to take rights away")
def test_without_the_right_to_leave_it_ends_unless_it_is_told_to_stay() -> None:
    """A pod in the host's network, or in the engine's, has the same program with an argument."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        program = Path(folder, "sandbox")
        program.write_bytes(pause.elf("x86_64"))
        program.chmod(0o755)
        done = subprocess.run([program], user=65534, group=65534, extra_groups=[], timeout=20, check=False)
        assert done.returncode == 1
        stays = [str(program), pause.STAY]
        with subprocess.Popen(stays, user=65534, group=65534, extra_groups=[]) as process:
            try:
                wait_until_asleep(process.pid)
                assert network_of(process.pid) == network_of(os.getpid())
            finally:
                process.kill()


@pytest.mark.skipif(shutil.which("qemu-aarch64-static") is None, reason="needs qemu-user-static to run arm64 code")
def test_the_arm64_program_under_an_emulator(tmp_path: Path) -> None:
    program = tmp_path / "sandbox"
    program.write_bytes(pause.elf("aarch64"))
    program.chmod(0o755)
    with subprocess.Popen(["qemu-aarch64-static", "-strace", program], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(3 if os.geteuid() == 0 else 2)]
        process.kill()
    assert "rt_sigaction(SIGCHLD" in said[0]
    assert "unshare(CLONE_NEWNET)" in said[1]
