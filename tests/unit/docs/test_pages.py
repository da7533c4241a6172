"""Every `shoal` command on the pages is one that the command line takes, flags and all."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.cli.catalogue import VERBS
from shoal.cli.loading import find_verb, load
from shoal.cli.mounted import application

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = page.read_text()
        found = re.findall(r"^    (?:docker compose exec api )?shoal (.+)$", text, re.MULTILINE)
        found += re.findall(r"`(?:docker compose exec api )?shoal ([a-z][^`]*)`", text)
        for command in found:
            if "…" not in command and "|" not in command:
                yield page.relative_to(ROOT).as_posix(), re.sub(r"\s{2,}#.*", "", command).strip()


def test_every_command_is_on_its_page() -> None:
    cli, lab = ((ROOT / "docs" / name).read_text() for name in ("cli.md", "lab.md"))
    table = "\n".join(line.split("|")[1] for line in cli.splitlines() if line.startswith("| "))
    verbs = {word.split()[0] for word in re.findall(r"`([a-z-]+(?: …)?)`", table)}
    assert verbs == set(VERBS)
    commands = {name for name in application()["lab"] if not name.startswith("-")}
    assert commands == set(re.findall(r"shoal lab ([a-z]+)", lab))


def test_every_extra_is_on_the_page_for_developers() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"`shoal\[([a-z]+)\]`", (ROOT / "docs/developing.md").read_text())) == set(extras)


@pytest.mark.parametrize(("page", "command"), sorted(set(commands())))
def test_a_command_of_the_pages_is_understood(page: str, command: str) -> None:
    verb, rest = find_verb(shlex.split(command.replace("NAME", "name")))
    assert verb in VERBS, page
    if VERBS[verb].module:
        parser, _ = load(verb, VERBS[verb].module)
        parser.parse(rest)
    else:
        _, _, _ = application().parse_args([verb, *rest], exit_on_error=False, print_error=False)
