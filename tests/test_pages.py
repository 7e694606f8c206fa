"""What the tutorials and how-to pages show runs as it stands there, and says the truth."""

import re
import textwrap

import pytest

from flaregate.testing import InProcessClient
from tests.conftest import ROOT
from worker_image.in_process import in_process

PAGES = ("tutorial/first-sweep.md", "howto/searches.md", "howto/apply.md", "howto/map.md", "howto/dropins.md")
_BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.filterwarnings("default")
def test_the_page_runs(page):
    blocks = [textwrap.dedent(block) for _, block in _BLOCK.findall((ROOT / "docs" / page).read_text())]
    assert blocks
    with InProcessClient(in_process) as client:
        names = {"client": client, "__name__": "page"}
        for block in blocks:
            if not block.startswith("# with a gateway"):
                exec(compile(block, page, "exec"), names)
