import pytest

from shoal.cli.output.paths import find, render
from shoal.errors import BadRequest

POD = {
    "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "x"}},
    "status": {"ips": [{"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}], "ready": True, "count": 3},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.metadata.name}", "web"),
        ("{$.metadata.name}", "web"),
        (".metadata.name", "web"),
        ("metadata.name", "web"),
        ("{.status.ips[*].ip}", "1.1.1.1 2.2.2.2"),
        ("{.status.ips[0].ip}", "1.1.1.1"),
        ("{.status.ips[-1].ip}", "2.2.2.2"),
        ("{.metadata.labels['app.kubernetes.io/name']}", "x"),
        (r"{.metadata.labels.app\.kubernetes\.io/name}", "x"),
        ("{.metadata.name}:{.status.count}{'\\n'}", "web:3\n"),
        ("{.status.ready}", "true"),
        ("{.status.ips[0]}", '{"ip":"1.1.1.1"}'),
        ("{.nothing.there}", ""),
    ],
)
def test_render(template: str, text: str) -> None:
    assert render(POD, template) == text


@pytest.mark.parametrize("path", [".a[?(@.b==1)]", "{range .items[*]}", ".a..b"])
def test_what_is_not_known_is_refused(path: str) -> None:
    with pytest.raises(BadRequest, match="cannot read the path"):
        find(POD, path)
