"""The rules of the house that no linter knows. A rule that is broken names the file and the line."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal import names
from shoal.controller.actions import Trace

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "libs").rglob("*.py"), *(ROOT / "services").rglob("*.py")])
SERVICES = ("api", "node_agent", "replica_controller", "scheduler", "service_proxy")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

# How a subject, stream, bucket or key begins, and how a label or annotation of ours does.
WIRE_WORDS = (
    "$KV.",
    "$JS.",
    "$SRV.",
    "KV_",
    "shoal.",
    "desired.",
    "observed.",
    "bound.",
    "shared.",
    "system.",
    "io.shoal.",
)
# A word that only looks like one: modules (`python -m shoal.api`) and the names of this distribution's files.
NOT_WIRE = ("shoal.api", "shoal.cli", "shoal.local", "shoal.node_agent", "shoal.replica_controller", "shoal.scheduler",
            "shoal.service_proxy", "shoal.telemetry")  # fmt: skip
SPELLED_IN = {"libs/shoal/names.py", "libs/shoal/telemetry/trace.py"}  # the second: attributes of spans
LOG_METHODS = {"debug", "info", "warning", "error", "exception"}  # an event's name has the same form


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of the code but docstrings and names of log events: (line, text)."""
    tree = ast.parse(path.read_text())
    events = {
        id(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LOG_METHODS
        and node.args
    }
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | events:
            yield node.lineno, node.value


def test_names_on_the_wire_are_spelled_in_one_module() -> None:
    spelled = [
        f"{relative(path)}:{line}: {text!r}"
        for path in SOURCES
        if relative(path) not in SPELLED_IN
        for line, text in literals(path)
        if text.startswith(WIRE_WORDS) and not text.startswith(NOT_WIRE) and text != "shoal."
    ]
    assert spelled == []


def test_logs_are_imported_from_the_one_place_that_keeps_them_cheap() -> None:
    """`import structlog` by itself brings rich: 150 ms and 7 MB a process (telemetry/logs.py)."""
    offenders = [
        f"{relative(path)}:{node.lineno}"
        for path in SOURCES
        if "telemetry" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(a.name.startswith("structlog") for a in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("structlog"))
    ]
    assert offenders == []


def test_shoal_is_a_namespace_package_in_two_roots() -> None:
    assert not (ROOT / "libs/shoal/__init__.py").exists()
    assert not (ROOT / "services/shoal/__init__.py").exists()
    libs = {p.name for p in (ROOT / "libs/shoal").iterdir()}
    services = {p.name for p in (ROOT / "services/shoal").iterdir()}
    assert libs & services <= {"__pycache__"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_a_start_and_a_shell(service: str) -> None:
    folder = ROOT / "services/shoal" / service
    assert (folder / "__main__.py").is_file()
    assert (folder / "service.py").is_file()
    assert "async def serve(" in (folder / "service.py").read_text()


def test_import_rules_cover_every_package() -> None:
    """A package that appears must be put under the rules; import-linter alone would not miss it."""
    contracts = {c["name"]: c for c in PROJECT["tool"]["importlinter"]["contracts"]}
    libs = {
        f"shoal.{p.stem}" for p in (ROOT / "libs/shoal").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    services = {f"shoal.{p.name}" for p in (ROOT / "services/shoal").iterdir() if (p / "__init__.py").exists()}
    assert set(contracts["libs import no service"]["source_modules"]) == libs
    assert set(contracts["libs import no service"]["forbidden_modules"]) == services
    assert set(contracts["services import no other service"]["modules"]) == services


def test_a_module_that_decides_is_under_the_rule_that_it_does_no_io() -> None:
    """Every module of a service with a pure entry (`decide`, `plan`, `admit`) belongs on import-linter's list."""
    (contract,) = (c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["name"] == "what decides does no I/O")
    listed = set(contract["source_modules"])
    pure_names = {"decide", "plan", "admit"}
    unlisted = []
    for path in SOURCES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts[1:]).removesuffix(".__init__")
        if any(module == m or module.startswith(m + ".") for m in listed):
            continue
        body = ast.parse(path.read_text()).body
        body = [n for top in body for n in (top.body if isinstance(top, ast.ClassDef) else [top])]
        functions = {n.name for n in body if isinstance(n, ast.FunctionDef)}
        if functions & pure_names:
            unlisted.append(f"{relative(path)}: {sorted(functions & pure_names)}")
    assert unlisted == []


def test_the_lock_is_that_of_the_project() -> None:
    """`uv lock --check` asks the index; that every requirement is locked as it is written can be seen without it."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    (own,) = (p for p in lock["package"] if p["name"] == "shoal")
    written = [(r, "") for r in PROJECT["project"]["dependencies"]]
    for extra, requirements in PROJECT["project"]["optional-dependencies"].items():
        written += [(r, extra) for r in requirements]
    in_groups = [(r, group) for group, requirements in PROJECT["dependency-groups"].items() for r in requirements]
    assert sorted(map(_locked, own["metadata"]["requires-dist"])) == sorted(_written(r, extra) for r, extra in written)
    found = [_locked(r, group) for group, locked in own["metadata"]["requires-dev"].items() for r in locked]
    assert sorted(found) == sorted(_written(r, group) for r, group in in_groups)
    assert {_project(r) for r, _ in written + in_groups} <= {p["name"] for p in lock["package"]}


def _locked(entry: dict[str, Any], group: str = "") -> tuple[str, str, list[str], str]:
    """Name, extras of it, versions, and which extra or group of ours asks for it."""
    extra = re.search(r"extra == '(\w+)'", entry.get("marker", ""))
    return (
        entry["name"],
        ",".join(entry.get("extras", ())),
        _versions(entry.get("specifier", "")),
        extra[1] if extra else group,
    )


def _written(requirement: str, extra: str) -> tuple[str, str, list[str], str]:
    extras = re.search(r"\[(.*)\]", requirement)
    versions = re.search(r"[<>=!~].*", requirement)
    return _project(requirement), extras[1] if extras else "", _versions(versions[0] if versions else ""), extra


def _versions(specifier: str) -> list[str]:
    return sorted(part.strip() for part in specifier.split(",") if part.strip())


def _project(requirement: str) -> str:
    for mark in "[<>=!~; ":
        requirement = requirement.partition(mark)[0]
    return requirement.lower().replace("_", "-")


# Modules that only the other extras bring. A host that only joins has none of them.
NOT_ON_A_NODE = ("yaml", "cyclopts", "rich", "numpy", "opentelemetry", "requests", "pyroute2")


@pytest.mark.parametrize("service", ["node_agent", "service_proxy"])
def test_a_node_needs_only_its_extra(service: str) -> None:
    code = (
        "import sys, importlib, pkgutil\n"
        f"for name in {NOT_ON_A_NODE!r}: sys.modules[name] = None\n"
        f"package = importlib.import_module('shoal.{service}')\n"
        "for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()


def test_the_picture_of_the_architecture_matches_the_names() -> None:
    """Every subject and key on the page is one that names.py builds, and none of a manifest's way is left out."""
    here, key = names.Names(), names.ObjectKey("Xresource", "Xns", "Xname")
    built = {
        re.sub(r"X([a-z]+)", r"<\1>", name)
        for name in (
            here.manifests("Xuser", "Xns"),
            here.api("Xuser", "Xverb", "Xresource", "Xns"),
            here.outcome("Xuser", "Xid"),
            here.register("Xnode"),
            here.status("Xnode"),
            here.heartbeat("Xnode"),
            here.watermark("Xnode"),
            here.watch("Xnode", "Xprocess"),
            here.node("Xnode", "Xverb"),
            here.event(key, "Xreporter", "Xreason", "Xnote"),
            names.desired(key),
            names.observed("Xwriter", key),
            names.bound("Xnode", key),
            names.shared(key),
        )
    }
    assert {name for name in built if name not in ARCHITECTURE} == set()
    form = r"\bshoal\.[a-z]+\.<[^\s`,:;]*>|\b(?:desired|observed|bound|shared)\.<[^\s`,:;]*>"
    known = built | {name.replace("<writer>", "<node>") for name in built}  # a node is a writer
    shown = {name.removesuffix(">") if name.endswith(".>") else name for name in re.findall(form, ARCHITECTURE)}
    assert {name for name in shown if not any(whole.startswith(name) for whole in known)} == set()
    for stream in (here.manifests_stream, here.outcomes_stream, here.events_stream):
        assert f"`{stream}`" in ARCHITECTURE


def spans(path: Path) -> Iterator[str]:
    """Names of the spans that a module begins, itself or as the `Trace` of a unit."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(
                func=ast.Name(id="span") | ast.Attribute(attr="span"), args=[ast.Constant(value=str(name)), *_]
            ):
                yield name
            case ast.Call(func=ast.Name(id="Trace"), keywords=keywords):
                given = [k.value.value for k in keywords if k.arg == "name" and isinstance(k.value, ast.Constant)]
                yield str(given[0]) if given else Trace().name


def test_the_words_in_bold_are_the_spans() -> None:
    section = ARCHITECTURE.partition("## The way of one manifest")[2].partition("\n## ")[0]
    bold = {word for words in re.findall(r"\*\*(.+?)\.?\*\*", section) for word in words.split(", ")}
    assert bold == {name for path in SOURCES for name in spans(path)}


def test_the_pages_name_what_there_is() -> None:
    """Relative links lead somewhere, and every process and package on the architecture page exists."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{relative(page)}: {target}"
    for module in re.findall(r"`shoal\.([a-z_]+)` \|", ARCHITECTURE):
        assert (ROOT / "services/shoal" / module / "__main__.py").exists(), module
    for path in re.findall(r"`([a-z_]+(?:/|\.py))`", ARCHITECTURE):
        if path not in ("__main__.py", "service.py"):
            assert (ROOT / "libs/shoal" / path).exists() or (ROOT / "services/shoal" / path).exists(), path


def test_the_readme_is_one_screen() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 160


@pytest.mark.xdist_group("house")
def test_workers_heed_groups(request: pytest.FixtureRequest) -> None:
    """The tests of one lab must not run on two workers at once; a pytest that xdist does not fit would let them."""
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@house")
