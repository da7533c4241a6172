"""The command as a whole: exit codes, one sentence for whatever goes wrong, help for every verb."""

import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from shoal.cli import __main__ as cli
from shoal.cli.catalogue import VERBS
from shoal.cli.failure import Failed, sentences
from shoal.cli.help import of_all, of_verb
from shoal.cli.loading import load
from shoal.errors import Invalid, NotFound, Unavailable


def raising(error: BaseException) -> Any:
    def run(_argv: Sequence[str]) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (NotFound('pods "web" not found'), 1, 'error: pods "web" not found\n'),
        (Invalid("wrong", path="spec.x", hint="did you mean y?"), 1, "error: spec.x: wrong (did you mean y?)\n"),
        (BaseExceptionGroup("", [Unavailable("away"), Unavailable("away")]), 1, "error: away\n"),
        (Failed(), 1, ""),
        (
            ModuleNotFoundError("No module", name="yaml.nodes"),
            1,
            "error: yaml.nodes is not there: install shoal[cli]\n",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "web.yaml"),
            1,
            "error: web.yaml: no such file or directory\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (
            ZeroDivisionError("division by zero"),
            1,
            "error: unexpected ZeroDivisionError: division by zero (this is a defect of shoal; --debug shows where)\n",
        ),
    ],
)
def test_whatever_goes_wrong_is_a_sentence_and_a_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "run", raising(error))
    assert cli.main(["get"]) == code
    assert capsys.readouterr().err == said


def test_debug_shows_the_trace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "run", raising(ZeroDivisionError("x")))
    assert cli.main(["get", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_several_lines_are_several_errors() -> None:
    assert list(sentences(Invalid("a.yaml:1: x\na.yaml:2: y"))) == ["a.yaml:1: x", "a.yaml:2: y"]


LAB = ("up", "down", "list", "status", "env", "cut", "heal", "kill", "restart", "exec", "logs")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gte"], "error: unknown command 'gte' (did you mean get?); 'shoal --help' lists them\n"),
        (["help", "gte"], "error: unknown command 'gte' (did you mean get?); 'shoal --help' lists them\n"),
        (
            ["lab", "cutt", "h1"],
            f"error: unknown command 'lab cutt' (did you mean cut?); lab has {', '.join(LAB)}\n",
        ),
        (["get", "--selectr=a"], "error: unknown flag: --selectr (did you mean --selector?); see 'shoal get --help'\n"),
        (["get", "--xy"], "error: unknown flag: --xy; see 'shoal get --help'\n"),
        (["get"], "error: name a kind of object, such as pods; 'shoal api-resources' lists them\n"),
        (["exec", "web", "ls"], "error: write the command behind --, such as: shoal exec web -- ls\n"),
        (["exec", "--", "ls"], "error: name the pod before --, such as: shoal exec web -- ls\n"),
        (["schema", "pood"], 'error: unknown resource "pood" (did you mean pod?)\n'),
        (["up", "--nope"], "error: Unknown option: --nope. Did you mean --node? (see 'shoal up --help')\n"),
        (["apply", "-f", "/nowhere.yaml"], "error: /nowhere.yaml: no such file or directory\n"),
    ],
)
def test_usage_errors(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 1
    assert capsys.readouterr().err == said


OWN = [name for name, verb in VERBS.items() if verb.module]


@pytest.mark.parametrize("name", OWN)
def test_every_verb_has_help_with_examples_that_can_be_parsed(name: str) -> None:
    text = of_verb(name)
    examples = text.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert examples
    parser, _ = load(name, VERBS[name].module)
    for example in examples:
        words = re.split(r"\s{2,}|[>|]", example.strip().removeprefix("source <(").rstrip(")"))
        import shlex

        command = next(
            shlex.split(w) for w in words if w.strip().startswith("shoal") or (len(words) > 1 and "shoal" in w)
        )
        assert command[:2] == ["shoal", name]
        parser.parse(command[2:])
    assert f"Usage: shoal {name}" in text
    assert max(len(line) for line in text.splitlines()) <= 130


@pytest.mark.parametrize("name", [*VERBS, "lab up"])
def test_no_default_is_said_twice_or_in_pythons_words(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*name.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for flag in re.split(r" (?=--?[a-z])", text):
        assert flag.count("(default") + flag.count("[default:") <= 1, flag
    assert not re.search(r'default:? (""|None|True|False)', text)


@pytest.mark.parametrize("words", [["lab", "help", "cut"], ["lab", "cut", "--help"], ["lab", "heal", "-h"]])
def test_help_of_a_lab_command_names_what_it_takes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "Usage: shoal lab" in shown
    assert "control" not in shown


def test_the_version_of_the_client_needs_no_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"Client Version: v\d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_help_names_every_verb() -> None:
    assert all(f"\n  {name} " in of_all() for name in VERBS)


@pytest.mark.parametrize("words", [["--help"], [], ["help"], ["-h"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    assert capsys.readouterr().out == of_all()


@pytest.mark.parametrize("words", [["get", "--help"], ["help", "get"], ["get", "-h"], ["get", "pods", "-h"]])
def test_help_of_a_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    assert capsys.readouterr().out == of_verb("get")


def test_a_reader_that_goes_away_is_no_failure_worth_words() -> None:
    code = "import sys; sys.argv[1:] = ['schema', 'pod']; from shoal.cli.__main__ import main; sys.exit(main())"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_no_hot_verb_imports_what_is_slow() -> None:
    """`get` from a shell has 250 ms in total (see cli/__main__.py)."""
    code = (
        "import sys\n"
        "import shoal.cli.__main__; from shoal.cli.loading import load\n"
        "import shoal.cli.context, shoal.bus.connecting, shoal.client\n"
        "for verb in ('get', 'apply', 'logs'): load(verb, verb)\n"
        "slow = {'rich', 'yaml', 'cyclopts', 'aiohttp', 'attr', 'typing_extensions', 'opentelemetry', 'uvloop', 'hypothesis'}\n"
        "print(sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if not verb.module])
def test_what_is_mounted_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    assert f"Usage: shoal {name}" in capsys.readouterr().out


def test_completion() -> None:
    from shoal.cli.completing import candidates

    assert "get" in candidates([], "")
    assert "--selector=" in candidates(["get", "pods"], "--se")
    assert "--watch" in candidates(["get", "pods"], "--")
    assert candidates(["get"], "po") == ["pods", "replicasets", "nodes", "namespaces", "events"]
    assert candidates(["get", "pods", "-o"], "") == ["wide", "yaml", "json", "name"]
    assert candidates(["exec", "web", "--"], "l") == []
