"""nft is found where `available` finds it, and its own words are kept."""

from pathlib import Path

import pytest

from shoal.errors import Unavailable
from shoal.net import nft


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nft may be; it is on no PATH."""
    monkeypatch.setattr(nft, "_WHERE", str(tmp_path))
    return tmp_path


def put(directory: Path, script: str) -> None:
    program = directory / "nft"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


async def test_it_is_run_from_where_it_was_found(directory: Path) -> None:
    put(directory, f'echo "$*" > {directory}/asked; cat > {directory}/text')
    assert nft.available()
    await nft.apply("table ip x {}")
    assert (directory / "text").read_text() == "table ip x {}"
    assert (directory / "asked").read_text() == "-f -\n"
    assert await nft.has_table("ip", "x")


async def test_what_it_refuses_is_told_in_its_words(directory: Path) -> None:
    put(directory, 'cat > /dev/null; echo "syntax error, unexpected" >&2; exit 1')
    with pytest.raises(nft.NftError, match="syntax error, unexpected"):
        await nft.apply("nonsense")
    assert not await nft.has_table("ip", "x")


async def test_a_text_that_is_not_read_to_its_end_is_told_too(directory: Path) -> None:
    put(directory, "exit 3")
    with pytest.raises(nft.NftError, match="nft ended with 3"):
        await nft.apply("x" * 1_000_000)


async def test_without_it_one_sentence_says_so(directory: Path) -> None:
    assert not nft.available()
    with pytest.raises(Unavailable, match="nft is not installed"):
        await nft.apply("")
    with pytest.raises(Unavailable, match="nft is not installed"):
        await nft.has_table("ip", "x")


async def test_a_question_has_no_input(directory: Path) -> None:
    """A pipe that its process has left before it is opened is an error of the event loop's."""
    put(directory, f"readlink /proc/$$/fd/0 > {directory}/input")
    await nft.has_table("ip", "x")
    assert (directory / "input").read_text() == "/dev/null\n"
