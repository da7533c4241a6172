import argparse

import pytest

from shoal.cli.arguments import Parser, UsageError, add_dry_run, add_global, add_selector, duration_s
from shoal.cli.loading import find_verb
from shoal.cli.resources import one, shown, targets
from shoal.errors import Invalid


def a_parser() -> Parser:
    parser = Parser("try")
    add_global(parser)
    add_selector(parser)
    add_dry_run(parser)
    parser.flag("-i", "--stdin", help="in")
    parser.flag("-t", "--tty", help="tty")
    parser.flag("--wait", default=True, help="wait")
    parser.value("-f", "--filename", action="append", default=[], help="files")
    return parser


def parsed(*words: str) -> argparse.Namespace:
    return a_parser().parse(words)


def test_flags_and_names_come_in_any_order() -> None:
    args = parsed("pods", "-n", "prod", "web", "--selector=a=b,c!=d", "db")
    assert (args.names, args.namespace, args.selector) == (["pods", "web", "db"], "prod", "a=b,c!=d")


def test_short_flags_join() -> None:
    args = parsed("-it", "-fweb.yaml", "-f", "-", "-n=prod")
    assert (args.stdin, args.tty, args.filename, args.namespace) == (True, True, ["web.yaml", "-"], "prod")


@pytest.mark.parametrize(("word", "value"), [("--wait", True), ("--wait=true", True), ("--wait=false", False)])
def test_booleans(word: str, value: bool) -> None:
    assert parsed(word).wait is value


def test_an_optional_value_is_given_by_equals_only() -> None:
    assert parsed("--dry-run", "pods").dry_run == "client"
    assert parsed("--dry-run", "pods").names == ["pods"]
    assert parsed("--dry-run=server").dry_run == "server"
    assert parsed("pods").dry_run == "none"


def test_what_follows_two_dashes_is_left_alone() -> None:
    args = parsed("web", "-i", "--", "sh", "-c", "echo -- hi")
    assert (args.names, args.after) == (["web"], ["sh", "-c", "echo -- hi"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--wiat"], "unknown flag: --wiat (did you mean --wait?); see 'shoal try --help'"),
        (["--wait=maybe"], "invalid value 'maybe' for --wait: true or false; see 'shoal try --help'"),
        (["-n"], "argument -n/--namespace: expected one argument; see 'shoal try --help'"),
        (["--dry-run=never"], "argument --dry-run: 'never' is not one of none, client, server; see 'shoal try --help'"),
    ],
)
def test_a_wrong_flag_is_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(*words)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5400), ("250ms", 0.25), ("90", 90), ("0", 0), ("-1", 604800), ("1.5s", 1.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


def test_a_bad_duration() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no duration"):
        duration_s("soon")


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (["get", "pods"], ("get", ["pods"])),
        (["-n", "prod", "get", "pods"], ("get", ["-n", "prod", "pods"])),
        (["--namespace=prod", "get", "pods"], ("get", ["--namespace=prod", "pods"])),
        (["--debug", "get"], ("get", ["--debug"])),
        (["--help"], ("", ["--help"])),
        ([], ("", [])),
        (["--version"], ("version", ["--client"])),
    ],
)
def test_the_verb_is_found_among_global_flags(argv: list[str], found: tuple[str, list[str]]) -> None:
    assert find_verb(argv) == found


# --- naming objects -----------------------------------------------------------------------------------------------------


def named(*words: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(target.kind.resource, target.names) for target in targets(words)]


def test_targets() -> None:
    assert named("pods") == [("pods", ())]
    assert named("po", "web", "db") == [("pods", ("web", "db"))]
    assert named("pods,rs,po") == [("pods", ()), ("replicasets", ())]
    assert named("pod/web", "rs/db") == [("pods", ("web",)), ("replicasets", ("db",))]
    assert named("replicasets.apps/db") == [("replicasets", ("db",))]
    assert named("all") == [("pods", ()), ("replicasets", ())]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name a kind of object, such as pods; 'shoal api-resources' lists them"),
        (["pods", "rs/web"], "'pods': beside TYPE/NAME each word must be one; there is no need of a separate TYPE"),
        (["pod/"], "'pod/' is not of the form TYPE/NAME"),
        (["a/b/c"], "'a/b/c' is not of the form TYPE/NAME"),
    ],
)
def test_targets_that_cannot_be(words: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        targets(words)
    assert str(caught.value) == sentence


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(Invalid, match="did you mean pods"):
        targets(["podss"])


def test_one_object() -> None:
    def name(*words: str, default: str = "") -> str:
        kind, found = one(words, default=default)
        return shown(kind, found)

    assert name("pod/web") == "pod/web"
    assert name("rs", "web") == "replicaset.apps/web"
    assert name("web", default="pod") == "pod/web"
    with pytest.raises(UsageError, match="name one pod only"):
        one(["a", "b", "c"], default="pod")
