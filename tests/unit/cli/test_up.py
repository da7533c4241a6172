"""`shoal up` where a cluster runs already."""

from pathlib import Path

import pytest

from shoal.cli.up.commands import _check_same
from shoal.errors import BadRequest
from shoal.local.machine import LocalRecord

RUNS = LocalRecord(
    node="n1", port=4222, store="/data/s", cluster_cidr="10.208.0.0/12", socket="/run/docker.sock", own_engine=False
)


def test_what_differs_from_the_cluster_that_runs_is_refused_in_one_sentence() -> None:
    with pytest.raises(BadRequest) as refused:
        _check_same(RUNS, "/data/t", "n2", "10.32.0.0/12")
    assert str(refused.value) == (
        "a cluster runs here already, with --store /data/s, not /data/t, --node n1, not n2,"
        " --cluster-cidr 10.208.0.0/12, not 10.32.0.0/12; `shoal down` stops it"
    )


def test_the_same_again_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir("/")
    _check_same(RUNS, "data/s", "n1", "10.208.0.0/12")
    _check_same(RUNS, "", "", "")
