import io
import tarfile
from pathlib import Path

import pytest

from shoal.local import images
from shoal.local.engine_client import EngineClient
from shoal.names import IMAGE_DIGEST


@pytest.fixture(autouse=True)
def any_busybox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "busybox").write_bytes(b"\x7fELF program")
    monkeypatch.setattr(images, "BUSYBOX", tmp_path / "busybox")


def test_an_image_has_busybox_a_link_an_applet_and_its_files() -> None:
    web = images.examples("1.35")[1]
    with tarfile.open(fileobj=io.BytesIO(images.rootfs(["sh", "httpd", "busybox"], web.files))) as tar:
        entries = {entry.name: entry for entry in tar.getmembers()}
        program = tar.extractfile("bin/busybox")
        assert program is not None
        assert program.read() == b"\x7fELF program"

    assert entries["bin/busybox"].mode == 0o755
    assert entries["bin/sh"].linkname == entries["bin/httpd"].linkname == "busybox"
    assert entries["www/cgi-bin/index.cgi"].mode == 0o755
    assert entries["etc/passwd"].mode == 0o644
    assert entries["tmp"].mode == 0o1777


def test_the_same_input_gives_the_same_bytes() -> None:
    assert images.rootfs(["b", "a"], {"x": "1", "y": "2"}) == images.rootfs(["a", "b"], {"y": "2", "x": "1"})


def test_busybox_has_two_tags() -> None:
    assert images.examples("1.35")[0].tags == ("latest", "1.35")


class Engine(EngineClient):
    """Two tags of an image that `up` built, one of somebody else's."""

    def __init__(self) -> None:
        super().__init__("/none")
        self.labels = {
            "shoal/busybox:latest": {IMAGE_DIGEST: "1"},
            "shoal/busybox:1.35": {IMAGE_DIGEST: "1"},
            "shoal/agent:latest": {},
        }

    def images_of(self, repositories: str) -> list[str]:
        assert repositories == "shoal/*"
        return list(self.labels)

    def image_labels(self, reference: str) -> dict[str, str]:
        return self.labels[reference]

    def remove_image(self, reference: str) -> None:
        del self.labels[reference]


def test_only_what_was_built_here_is_removed() -> None:
    engine = Engine()
    images.remove(engine)
    assert list(engine.labels) == ["shoal/agent:latest"]
