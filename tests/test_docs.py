"""The generated pages are current, and what users may meet is documented."""

import re

import pytest
from typer.main import get_command

from docs.generate import NOTE, PAGES
from flaregate.cli.app import app
from tests.conftest import ROOT

PAGES_OF_HAND = [
    ROOT / "README.md",
    *(path for folder in ("docs", "infra") for path in sorted((ROOT / folder).rglob("*.md"))),
]


@pytest.mark.parametrize("page", PAGES)
def test_the_generated_page_is_current(page):
    written = (ROOT / "docs/reference" / page).read_text()
    assert written == NOTE + PAGES[page](), "run `make docs`"


def test_every_glossary_word_of_the_house_is_there():
    glossary = (ROOT / "docs/glossary.md").read_text()
    for word in (
        "definition",
        "order",
        "record",
        "handle",
        "sighting",
        "state",
        "reason",
        "event",
        "payload",
        "attempt",
    ):
        assert f"| {word} |" in glossary


def test_the_readme_opens_with_the_two_commands():
    assert "\n```\nmake demo\nmake test\n```\n" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES_OF_HAND, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_that_a_page_shows_exist(page):
    commands = get_command(app).commands
    text = page.read_text()
    code = "\n".join(
        [*re.split(r"^ *```.*$", text, flags=re.MULTILINE)[1::2], *re.findall(r"^ {4}.*$", text, re.MULTILINE)]
    )
    command = r"flaregate ([a-z]+)\b([^`|#\n]*)"
    shown = re.findall("`" + command, text) + re.findall(r"(?:^ *|&& |\| |\$\()" + command, code, re.MULTILINE)
    for name, rest in shown:
        assert name in commands, name
        known = {option for parameter in commands[name].params for option in parameter.opts} | {"--help"}
        assert set(re.findall(r"(?<![\w-])--[a-z-]+", rest)) <= known, f"{name}{rest}"
