"""Running `nft -f -`: one text, one transaction of the kernel's; and asking whether nftables is there at all."""

import asyncio
import shutil

from shoal.errors import ShoalError, Unavailable

_WHERE = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"  # a service's PATH may lack sbin


class NftError(ShoalError):
    """nft refused the text; its own words."""


async def apply(text: str) -> None:
    """All of `text`, or nothing of it. Raises: NftError; Unavailable if there is no nft."""
    code, said = await _run("-f", "-", text=text)
    if code:
        raise NftError(said or f"nft ended with {code}")


async def has_table(family: str, name: str) -> bool:
    """Raises: Unavailable if there is no nft."""
    code, _ = await _run("list", "table", family, name)
    return code == 0


async def _run(*arguments: str, text: str = "") -> tuple[int, str]:
    """Its exit code and what it complained of."""
    program = _program()
    if program is None:
        raise Unavailable("nft is not installed (Debian: nftables)")
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            # No pipe for nothing: one that ends before the pipe is opened breaks uvloop's.
            stdin=asyncio.subprocess.PIPE if text else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise Unavailable(f"nft cannot be run: {error}") from error
    _, said = await process.communicate(text.encode() or None)
    return process.returncode or 0, said.decode(errors="replace").strip()


def available() -> bool:
    return _program() is not None


def _program() -> str | None:
    return shutil.which("nft", path=_WHERE)
