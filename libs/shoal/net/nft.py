"""Running `nft -f -`: one text, one transaction of the kernel's; and asking whether nftables is there at all."""

import asyncio
import shutil

from shoal.errors import ShoalError, Unavailable


class NftError(ShoalError):
    """nft refused the text; its own words."""


async def apply(text: str) -> None:
    """All of `text`, or nothing of it. Raises: NftError; Unavailable if there is no nft."""
    try:
        process = await asyncio.create_subprocess_exec(
            "nft",
            "-f",
            "-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise Unavailable("nft is not installed (Debian: nftables)") from error
    _, said = await process.communicate(text.encode())
    if process.returncode:
        raise NftError(said.decode(errors="replace").strip() or f"nft ended with {process.returncode}")


async def has_table(family: str, name: str) -> bool:
    """Raises: Unavailable if there is no nft."""
    try:
        process = await asyncio.create_subprocess_exec(
            "nft", "list", "table", family, name, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError as error:
        raise Unavailable("nft is not installed (Debian: nftables)") from error
    return await process.wait() == 0


def available() -> bool:
    return shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin") is not None
