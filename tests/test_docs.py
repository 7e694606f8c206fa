"""The generated pages are current, and what users may meet is documented."""

import pytest

from docs.generate import NOTE, PAGES
from tests.conftest import ROOT


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
