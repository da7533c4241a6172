"""The program of a pod's sandbox: one tiny static ELF, and the image that holds nothing else.

The engine takes 100 ms and more to make a network namespace, since it runs its own binary again for a hook; the
kernel makes one in 4 ms. So a sandbox is started in the *host's* network and makes its own namespace as its first
act; the pod's containers join the namespace of that process, and the agent plumbs it (`network.py`).

What the program does, and why:

1. ignores SIGCHLD: it is process 1 where a pod shares processes, and the kernel then reaps orphans by itself;
2. `unshare(CLONE_NEWNET)`, the one thing for which it was given CAP_SYS_ADMIN; exits with 1 if that fails. With any
   argument (`STAY`) it does not: a pod on the host's network, or on one that the engine made for it;
3. drops every capability (`capset` of empty sets; it never executes anything, so that none comes back);
4. sleeps for ever. As process 1 it has no handler for any signal, so that only SIGKILL ends it.

The machine code is written out by hand, with what it says beside it; tests take the file apart, and run it.
"""

import hashlib
import io
import struct
import tarfile

REPOSITORY = "shoal/sandbox"
PATH = "/sandbox"
STAY = "stay"

_BASE = 0x400000
_HEADERS = 64 + 56  # ELF header, one program header

# rt_sigaction's argument: handler SIG_IGN (1), no flags, no restorer, empty mask.
_SIG_IGN = struct.pack("<QQQQ", 1, 0, 0, 0)
# capset's arguments: _LINUX_CAPABILITY_VERSION_3 and this process; then two empty triples of sets.
_CAP_HEADER = struct.pack("<II", 0x20080522, 0)
_CAP_NONE = bytes(24)
_DATA = _SIG_IGN + _CAP_HEADER + _CAP_NONE
_AT_CAP_HEADER = len(_SIG_IGN)
_AT_CAP_NONE = len(_SIG_IGN) + len(_CAP_HEADER)


def _x86_64() -> bytes:
    """System calls: number in eax; arguments in rdi, rsi, rdx, r10. All data lies below 4 GiB: mov r32, imm32."""
    data = _BASE + _HEADERS

    def imm(value: int) -> bytes:
        return struct.pack("<I", value)

    return b"".join(
        (
            b"\xb8" + imm(13),  # mov eax, 13           rt_sigaction
            b"\xbf" + imm(17),  # mov edi, 17           SIGCHLD
            b"\xbe" + imm(data),  # mov esi, &SIG_IGN
            b"\x31\xd2",  # xor edx, edx          no old action
            b"\x41\xba" + imm(8),  # mov r10d, 8           bytes of a signal set
            b"\x0f\x05",  # syscall
            b"\x83\x3c\x24\x01",  # cmp dword [rsp], 1    argc: alone?
            b"\x75\x10",  # jne drop              (16 bytes on)
            b"\xb8" + imm(272),  # mov eax, 272          unshare
            b"\xbf" + imm(0x40000000),  # mov edi, CLONE_NEWNET
            b"\x0f\x05",  # syscall
            b"\x85\xc0",  # test eax, eax
            b"\x75\x1a",  # jnz fail              (26 bytes on)
            # drop:
            b"\xb8" + imm(126),  # mov eax, 126          capset
            b"\xbf" + imm(data + _AT_CAP_HEADER),  # mov edi, &header
            b"\xbe" + imm(data + _AT_CAP_NONE),  # mov esi, &nothing
            b"\x0f\x05",  # syscall
            # sleep:
            b"\xb8" + imm(34),  # mov eax, 34           pause
            b"\x0f\x05",  # syscall
            b"\xeb\xf7",  # jmp sleep             (9 bytes back)
            # fail:
            b"\xb8" + imm(60),  # mov eax, 60           exit
            b"\xbf" + imm(1),  # mov edi, 1
            b"\x0f\x05",  # syscall
        )
    )


def _aarch64() -> bytes:
    """System calls: number in x8; arguments in x0 to x5. Each instruction is one little-endian word."""
    data = _BASE + _HEADERS

    def movz(register: int, value: int, shift: int = 0) -> int:
        return 0xD2800000 | (shift // 16) << 21 | value << 5 | register

    def movk(register: int, value: int, shift: int) -> int:
        return 0xF2800000 | (shift // 16) << 21 | value << 5 | register

    def address(register: int, value: int) -> tuple[int, int]:
        return movz(register, value & 0xFFFF), movk(register, value >> 16, 16)

    svc = 0xD4000001
    words = (
        movz(8, 134),  # mov x8, 134           rt_sigaction
        movz(0, 17),  # mov x0, 17            SIGCHLD
        *address(1, data),  # mov x1, &SIG_IGN
        movz(2, 0),  # mov x2, 0             no old action
        movz(3, 8),  # mov x3, 8             bytes of a signal set
        svc,
        0xF94003E9,  # ldr x9, [sp]          argc
        0xF100053F,  # cmp x9, #1            alone?
        0x54000001 | (5 << 5),  # b.ne drop             (5 instructions on)
        movz(8, 97),  # mov x8, 97            unshare
        movz(0, 0x4000, 16),  # mov x0, CLONE_NEWNET
        svc,
        0xB5000000 | (14 << 5) | 0,  # cbnz x0, fail         (14 instructions on)
        # drop:
        movz(8, 91),  # mov x8, 91            capset
        *address(0, data + _AT_CAP_HEADER),  # mov x0, &header
        *address(1, data + _AT_CAP_NONE),  # mov x1, &nothing
        svc,
        # sleep:
        movz(8, 73),  # mov x8, 73            ppoll of nothing, for ever (aarch64 has no pause)
        movz(0, 0),
        movz(1, 0),
        movz(2, 0),
        movz(3, 0),
        svc,
        0x17FFFFFA,  # b sleep               (6 instructions back)
        # fail:
        movz(8, 93),  # mov x8, 93            exit
        movz(0, 1),
        svc,
    )
    return b"".join(struct.pack("<I", word) for word in words)


_MACHINES = {"x86_64": (62, _x86_64), "aarch64": (183, _aarch64)}  # e_machine, code
_SAME = {"amd64": "x86_64", "arm64": "aarch64"}


def supported(machine: str) -> bool:
    return _SAME.get(machine, machine) in _MACHINES


def elf(machine: str) -> bytes:
    """The program for `machine` (as uname or as an engine names it). Raises: KeyError for any but the two."""
    number, assemble = _MACHINES[_SAME.get(machine, machine)]
    code = assemble()
    start = _BASE + _HEADERS + len(_DATA)
    start += -start % 4
    padding = bytes(start - _BASE - _HEADERS - len(_DATA))
    size = start - _BASE + len(code)
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)  # 64 bit, little-endian, version 1
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, number, 1, start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)  # LOAD, read and execute
    return header + segment + _DATA + padding + code


def image(machine: str) -> tuple[str, bytes]:
    """The image's reference, tagged by its content, and the tar stream to import under it."""
    program = elf(machine)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for directory in ("dev", "etc", "proc", "sys"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo(PATH.lstrip("/"))
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    return f"{REPOSITORY}:{hashlib.sha256(program).hexdigest()[:16]}", archive.getvalue()
