"""Links of the documentation lead somewhere, and lists that name parts of the project are complete."""

import configparser
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(prose(page)))
    return {heading.strip().replace(" ", "-") for heading in kept}


def broken(page: Path, text: str) -> list[str]:
    """Return the relative links of ``text`` that lead nowhere."""
    found = []
    for target in _LINK.findall(text):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page):
    assert broken(page, prose(page)) == []


def test_a_broken_link_is_noticed():
    readme = ROOT / "README.md"
    text = (
        "[a](no-such.md) [b](README.md#no-such-heading) [c](LICENSE) [d](#licence) [e](https://example.com)"
    )
    assert broken(readme, text) == ["no-such.md", "README.md#no-such-heading"]


def test_the_readme_leads_to_every_guide_and_reference():
    text = prose(ROOT / "README.md")
    for folder in ("guides", "reference"):
        for page in (ROOT / "docs" / folder).glob("*.md"):
            assert f"](docs/{folder}/{page.name})" in text


def test_the_architecture_names_every_module_of_the_core():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.partition("## Modules")[2].partition("## Contracts")[0]
    names = (line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    named = {name for cell in names for name in re.findall(r"`(?:lmbridge/)?([\w/.]+)`", cell)}
    folder = ROOT / "lmbridge"
    modules = {path.name for path in folder.glob("*.py")}
    packages = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    plugins = {f"providers/{path.parent.name}" for path in (ROOT / "providers").glob("*/__init__.py")}
    assert modules | packages | plugins == named


def test_the_architecture_names_every_module_of_the_page():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.partition("## In ComfyUI's page")[2].partition("## Decisions")[0]
    named = set(re.findall(r"`(\w+\.mjs)`", section))
    assert named == {path.name for path in (ROOT / "web" / "comfyui").rglob("*.mjs")}


def test_contributing_names_every_tox_environment():
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    environments = set(re.split(r"[,\s]+", tox["tox"]["env_list"].strip()))
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## What tox runs")[2].partition("\n`tox")[0]
    named = set().union(
        *(re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.splitlines() if "`" in line)
    )
    assert named == environments


def test_the_picture_shows_a_run_of_all_three_plugins():
    # The file is our own.
    picture = ET.parse(ROOT / "docs" / "images" / "demo.svg").getroot()  # noqa: S314
    text = "".join(picture.itertext()).replace("\xa0", " ")
    assert "lmbridge demo" in text
    for plugin in ("lmstudio-sdk", "lmstudio-rest", "openai-compat"):
        assert re.search(rf"ok +{plugin}", text)
    assert "@font-face" not in text
