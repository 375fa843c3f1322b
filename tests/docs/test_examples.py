"""Every example of the README and the guides is executed.

What a fenced block says in its first line decides what happens to it:

* ``python``: all blocks of a page run one after the other in one namespace, against an emulator. ``await``
  may stand at the top, as in ``python -m asyncio``. A block must print what its ``# prints …`` announce.
* ``bash``: each line is a command of lmbridge, ``export NAME=value``, or a comment; ``<`` and ``>`` work.
* ``console``: as ``bash`` for lines that begin with ``$``; the others are the output, ``...`` is anything.
* ``dotenv``, ``toml``: settings, which must load without a problem.
* ``text``, ``mermaid``: no example.

An HTML comment above a block changes that: ``<!-- exit 2 -->``: its last command ends with that code;
``<!-- server -->``: it runs until it is stopped; ``<!-- file: path -->``: it quotes that file. A comment that
begins with ``<!-- set-up`` holds Python that readers need not see.
"""

import ast
import asyncio
import doctest
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from lmbridge.emulator import Settings as EmulatorSettings
from lmbridge.emulator import ThreadedEmulator
from lmbridge.plugins import Plugins
from lmbridge.settings import Settings

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs" / "guides").glob("*.md"))]
SET_UP = ["python -m pip install . && lmbridge demo", "python -m pip install tox && tox"]
SHIPPED = ("lmstudio-rest", "lmstudio-sdk", "openai-compat")
EXECUTED = {"python", "bash", "console", "dotenv", "toml"}
_PART = re.compile(
    r"^<!-- set-up\n(?P<hidden>.*?)^-->$"
    r"|(?:^<!-- (?P<mark>[^\n]*) -->\n\n?)?^```(?P<language>\S*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PRINTS = re.compile(r"# prints (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """An example.

    ``line`` is the number of the first line of ``text`` in the page, from 0.
    """

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


def parse(page: Path, text: str) -> list[Block]:
    found = []
    for part in _PART.finditer(text):
        kind = "hidden" if part["hidden"] is not None else "text"
        line = text.count("\n", 0, part.start(kind))
        language = "python" if kind == "hidden" else part["language"]
        found.append(Block(page, line, language, part["mark"] or "", part[kind]))
    return found


BLOCKS = [block for page in PAGES for block in parse(page, page.read_text(encoding="utf-8"))]


def of(*languages: str):
    wanted = [item for item in BLOCKS if item.language in languages and not item.mark.startswith("file:")]
    return pytest.mark.parametrize("block", [pytest.param(item, id=item.name) for item in wanted])


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what the examples speak of, and no settings but the addresses below."""
    from PIL import Image

    for name in ("LMBRIDGE_CONFIG_FILE", "LMBRIDGE_ENV_FILE"):
        monkeypatch.delenv(name)
    for name in ("HOME", "USERPROFILE", "APPDATA", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for name, colour in (("cat.jpg", "red"), ("dog.png", "green")):
        Image.new("RGB", (64, 48), colour).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("Buy milk.\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def emulator(monkeypatch):
    """An LM Studio where every shipped provider, and the connection `workstation`, look for it."""
    with ThreadedEmulator(EmulatorSettings.instant(loaded=("qwen3-vl-4b",))) as server:
        for name in ("LMSTUDIO_REST", "LMSTUDIO_SDK", "OPENAI_COMPAT", "WORKSTATION"):
            monkeypatch.setenv(f"LMBRIDGE_CONNECTIONS__{name}__BASE_URL", server.url)
        monkeypatch.setenv("LMBRIDGE_CONNECTIONS__WORKSTATION__PROVIDER", "openai-compat")
        yield server


# -- the pages ---------------------------------------------------------------------------------------------


def test_there_are_pages_and_examples():
    assert len(PAGES) >= 5
    assert {block.page for block in BLOCKS} == set(PAGES)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_no_block_is_of_a_kind_that_nobody_runs(block):
    assert block.language in EXECUTED | {"text", "mermaid"}, f"{block.name} is never executed"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_of_a_page_is_found(page):
    fences = re.findall(r"^\s*```", page.read_text(encoding="utf-8"), re.MULTILINE)
    seen = [block for block in BLOCKS if block.page == page]
    hidden = page.read_text(encoding="utf-8").count("<!-- set-up\n")
    assert len(fences) == 2 * (len(seen) - hidden)


def test_the_readme_has_exactly_the_two_set_up_commands():
    others = [
        line
        for block in BLOCKS
        if block.page == README and block.language in {"bash", "console"}
        for line in block.text.splitlines()
        if not line.startswith("lmbridge ")
    ]
    assert others == SET_UP


QUOTES = [block for block in BLOCKS if block.mark.startswith("file:")]


@pytest.mark.parametrize("block", QUOTES, ids=lambda block: block.name)
def test_a_quoted_file_is_quoted_as_it_is(block):
    path = ROOT / block.mark.removeprefix("file:").strip()
    assert block.text == path.read_text(encoding="utf-8")


# -- Python ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_examples_run(page, desk, emulator, capsys, monkeypatch):
    blocks = [item for item in BLOCKS if item.page == page and item.language == "python"]
    module = _module_for(page, monkeypatch)
    module.emulator = emulator
    with asyncio.Runner() as runner:
        for block in blocks:
            if block.mark.startswith("file:"):
                continue
            _run_python(block, module.__dict__, runner)
            printed = capsys.readouterr().out
            for announced in _PRINTS.findall(block.text):
                assert announced in printed, f"{block.name} prints {printed!r}"
        pending = runner.run(_other_tasks())
    assert not pending, f"{page.name} leaves work behind: {pending}"


def _module_for(page, monkeypatch):
    name = f"lmbridge_page_{page.stem.replace('-', '_').lower()}"
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader=None))
    monkeypatch.setitem(sys.modules, name, module)
    return module


def _run_python(block: Block, namespace, runner) -> None:
    source = "\n" * block.line + block.text
    code = compile(source, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        runner.run(_awaited(code, namespace))
    else:
        exec(code, namespace)  # noqa: S102 - our own documentation


async def _awaited(code, namespace) -> None:
    await eval(code, namespace)  # noqa: S307 - our own documentation


async def _other_tasks():
    return asyncio.all_tasks() - {asyncio.current_task()}


# -- the command line --------------------------------------------------------------------------------------


class Done(NamedTuple):
    code: int
    output: str
    errors: str


class Shell:
    """Runs the lines of an example, as far as examples need a shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = [str(ROOT), str(ROOT / "providers")]
        self.environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "100"}

    def command(self, line: str) -> tuple[list[str], dict[str, str]]:
        """Return arguments for this interpreter and the environment; refuse what is no command of ours."""
        words = shlex.split(line, comments=True)
        environ = dict(self.environ)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            name, _, value = words.pop(0).partition("=")
            environ[name] = value
        if words[:1] == ["export"]:
            self.environ |= dict(word.split("=", 1) for word in words[1:])
            return [], environ
        if not words:
            return [], environ
        assert words[0] == "lmbridge", f"an example may only run lmbridge, not {words[0]!r}"
        return [sys.executable, "-m", *words], environ

    def run(self, line: str) -> Done | None:
        words, environ = self.command(line)
        if not words:
            return None
        source, target = self._redirection(words, "<"), self._redirection(words, ">")
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=environ,
            input=source.read_bytes() if source else b"",
            capture_output=True,
            timeout=30,
            check=False,
        )
        if target:
            target.write_bytes(done.stdout)
        return Done(done.returncode, _text(b"" if target else done.stdout), _text(done.stderr))

    def _redirection(self, words: list[str], sign: str) -> Path | None:
        if sign not in words:
            return None
        at = words.index(sign)
        path = self.folder / words[at + 1]
        del words[at : at + 2]
        return path

    def serve(self, line: str, mortal: Callable[[int], Callable[[], None]]) -> str:
        """Run a command that does not end by itself, on a free port, and return the first line it writes."""
        words, environ = self.command(line)
        assert "--port" not in words
        server = subprocess.Popen(
            [*words, "--port", "0"],
            cwd=self.folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        ended = mortal(server.pid)
        guard = threading.Timer(30, server.kill)
        guard.start()
        try:
            assert server.stdout is not None
            return _text(server.stdout.readline())
        finally:
            guard.cancel()
            server.kill()
            server.communicate()
            ended()


def _text(data: bytes) -> str:
    return data.decode("utf-8").replace("\r\n", "\n")


def _lines(text: str) -> list[str]:
    return [
        line for line in text.replace("\\\n", "").splitlines() if line.strip() and not line.startswith("#")
    ]


@of("bash")
def test_the_commands_run(block, desk, emulator, mortal):
    lines = _lines(block.text)
    if block.page == README and len(lines) == 1 and lines[0] in SET_UP:
        return  # they set up a fresh environment: .ci/run executes them
    shell = Shell(desk)
    if block.mark == "server":
        assert emulator.host in shell.serve(lines[-1], mortal)
        return
    wanted = int(block.mark.removeprefix("exit ")) if block.mark.startswith("exit ") else 0
    for number, line in enumerate(lines, 1):
        done = shell.run(line)
        if done is not None:
            assert done.code == (wanted if number == len(lines) else 0), f"{line}\n{done.output}{done.errors}"


@of("console")
def test_the_commands_write_what_is_shown(block, desk, emulator):
    shell = Shell(desk)
    wanted = int(block.mark.removeprefix("exit ")) if block.mark.startswith("exit ") else 0
    code = 0
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        done = shell.run(line)
        if done is None:
            continue
        code, written = done.code, done.output + done.errors
        same = doctest.OutputChecker().check_output(
            shown, written, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        )
        assert same, f"$ {line}\n{written}"
    assert code == wanted


# -- settings ----------------------------------------------------------------------------------------------


def _loads(desk, **files) -> None:
    plugins = Plugins(environ={})
    settings = Settings.load(
        environ={}, providers=plugins.providers, **{"env_file": None, "config_file": None, **files}
    )
    assert settings.problems == ()
    for name in settings.names():
        info = plugins.info(settings.provider_of(name))
        assert settings.check(name, info) == ()
        settings.resolve(name, info)
    assert set(settings.names()) - set(SHIPPED) or settings.report()


@of("dotenv")
def test_the_env_files_load(block, desk):
    (desk / "example.env").write_text(block.text, encoding="utf-8")
    _loads(desk, env_file=desk / "example.env")


@of("toml")
def test_the_toml_files_load(block, desk):
    (desk / "example.toml").write_text(block.text, encoding="utf-8")
    _loads(desk, config_file=desk / "example.toml")


# -- that all this can fail ----------------------------------------------------------------------------------


def test_a_block_is_found_with_its_mark_and_line():
    text = (
        "# T\n\n<!-- exit 2 -->\n\n```bash\nlmbridge x\n```\n\n<!-- set-up\nx = 1\n-->\n\n```python\ny\n```\n"
    )
    bash, hidden, python = parse(README, text)
    assert bash == Block(README, 5, "bash", "exit 2", "lmbridge x\n")
    assert hidden == Block(README, 9, "python", "", "x = 1\n")
    assert python.line == 13


def test_a_foreign_command_is_refused(desk):
    with pytest.raises(AssertionError, match="curl"):
        Shell(desk).run("curl http://127.0.0.1")


def test_variables_and_redirections_work(desk, emulator):
    shell = Shell(desk)
    assert shell.run("export LMBRIDGE_DEFAULT_CONNECTION=workstation") is None
    done = shell.run("LMBRIDGE_LOG=error lmbridge chat < notes.txt > answer.txt")
    assert done.code == 0, done.errors
    assert "Buy milk" in (desk / "answer.txt").read_text(encoding="utf-8")
