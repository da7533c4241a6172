"""Files of the agent's own state are there whole, or as they were."""

import os
from pathlib import Path

import pytest

from shoal.node_agent.files import replace


def test_what_cannot_be_written_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "registration.json"
    replace(file, b"old")

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        replace(file, b"new")
    assert file.read_bytes() == b"old"


def test_content_and_name_are_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())))
    replace(tmp_path / "a", b"1")
    assert synced == [str(tmp_path / "a.new"), str(tmp_path)]
    replace(tmp_path / "a", b"2", sync=False)
    assert len(synced) == 2
    assert [f.name for f in tmp_path.iterdir()] == ["a"]
