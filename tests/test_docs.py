import re

import pytest

from helpers import paths

PAGES = sorted(path for pattern in ("*.md", "*/*.md") for path in paths.SOURCE.glob(pattern))
PAGES = [page for page in PAGES if not page.relative_to(paths.SOURCE).parts[0].startswith(".")]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(paths.SOURCE)) for page in PAGES])
def test_what_a_page_links_to_is_there(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_stage_table_names_every_notebook():
    readme = (paths.SOURCE / "README.md").read_text(encoding="utf-8")
    for notebook in paths.SOURCE.glob("0?_*/*.ipynb"):
        assert f"| [{notebook.parent.name}]({notebook.parent.name}) | `{notebook.stem}` |" in readme
