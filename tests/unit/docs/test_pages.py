"""Every `shoal` command on the pages is one that the command line takes, flags and all."""

import re
import shlex
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


@pytest.mark.parametrize(("page", "command"), sorted(set(commands())))
def test_a_command_of_the_pages_is_understood(page: str, command: str) -> None:
    verb, rest = find_verb(shlex.split(command.replace("NAME", "name")))
    assert verb in VERBS, page
    if VERBS[verb].module:
        parser, _ = load(verb, VERBS[verb].module)
        parser.parse(rest)
    else:
        _, _, _ = application().parse_args([verb, *rest], exit_on_error=False, print_error=False)
