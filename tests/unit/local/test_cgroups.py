"""Which hierarchy is used where, on made-up trees: a machine has only one kind."""

from pathlib import Path

from shoal.local import cgroups


def tree(root: Path, *hierarchies: str) -> Path:
    for name in hierarchies:
        (root / name).mkdir()
        (root / name / "cgroup.procs").touch()
    return root


def test_v1_is_tracked_by_pids(tmp_path: Path) -> None:
    root = tree(tmp_path, "cpu", "memory", "pids", "systemd")

    assert cgroups.tracking(root) == root / "pids"
    assert cgroups.make("shoal-x", root) == root / "pids/shoal-x/engine"


def test_a_hybrid_machine_is_treated_as_v1(tmp_path: Path) -> None:
    root = tree(tmp_path, "unified", "freezer", "memory")

    assert cgroups.tracking(root) == root / "freezer"


def test_v2_is_one_hierarchy_and_hands_its_controllers_down(tmp_path: Path) -> None:
    for name in ("cgroup.controllers", "cgroup.procs", "cgroup.subtree_control"):
        (tmp_path / name).touch()

    assert cgroups.hierarchies(tmp_path) == [tmp_path]
    assert cgroups.make("shoal-x", tmp_path) == tmp_path / "shoal-x/engine"
    assert (tmp_path / "cgroup.subtree_control").read_text().startswith("+")


def test_nothing_is_made_where_no_cgroups_are(tmp_path: Path) -> None:
    assert cgroups.make("shoal-x", tmp_path) is None
    assert cgroups.hierarchies(tmp_path / "none") == []


def test_processes_of_all_below_are_found(tmp_path: Path) -> None:
    for folder, pids in (("a", "1\n"), ("a/b", "2\n3\n"), ("c", "4\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cgroup.procs").write_text(pids)

    assert sorted(cgroups.processes(tmp_path / "a")) == [1, 2, 3]


def test_a_cgroup_is_removed_from_every_hierarchy(tmp_path: Path) -> None:
    root = tree(tmp_path, "cpu", "pids")
    for name in ("cpu", "pids"):
        (root / name / "shoal-x/engine").mkdir(parents=True)
    cgroups.remove("shoal-x", root)

    assert not (root / "cpu/shoal-x").exists()
    assert not (root / "pids/shoal-x").exists()
