"""Import, discovery, and the form of hooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lmbridge.catalog import API_VERSION, ProviderInfo
from lmbridge.discovery import PROVIDER_GROUP, find_plugins, this_checkout
from lmbridge.errors import PluginError
from lmbridge.plugins import Plugins
from lmbridge.testing.bench import found
from lmbridge.testing.checks import check
from lmbridge.testing.conformance.base import Base

__all__ = ["Registration"]

#: Clients of servers, and what takes seconds to import: nobody should pay for them who uses another provider.
_HEAVY = (
    "anthropic",
    "cohere",
    "google.genai",
    "google.generativeai",
    "huggingface_hub",
    "litellm",
    "llama_cpp",
    "lmstudio",
    "mistralai",
    "ollama",
    "openai",
    "tensorflow",
    "torch",
    "transformers",
    "vllm",
)
_IMPORT = """
import json, sys
touched = []
def watch(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"}:
        touched.append(f"{event} {arguments[-1]!r}")
        raise ConnectionRefusedError("no network at import")
sys.addaudithook(watch)
problem = ""
try:
    __import__(sys.argv[1])
except BaseException as exc:
    problem = f"{type(exc).__name__}: {exc}"
heavy = [name for name in sys.argv[2:] if name in sys.modules]
print("\\n" + json.dumps({"touched": touched, "heavy": heavy, "problem": problem}))
"""


class Registration(Base):
    """The provider can be found, imported and opened, and costs nobody anything who does not use it."""

    def test_importing_it_touches_no_network_and_no_foreign_sdk(self) -> None:
        """In a fresh process; ``sdks`` names the foreign clients that it may import."""
        foreign = [name for name in _HEAVY if name not in self.sdks]
        command = [sys.executable, "-c", _IMPORT, self.provider.__module__, *foreign]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(  # noqa: S603 - this interpreter, and the author's own module
            command, env=environ, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False
        )
        check(done.returncode == 0, f"the interpreter ended with {done.returncode}: {done.stderr[-500:]}")
        told = json.loads(done.stdout.splitlines()[-1])
        check(not told["touched"], f"its import touches the network: {'; '.join(told['touched'])}")
        check(not told["problem"], f"{self.provider.__module__} cannot be imported: {told['problem']}")
        check(
            not told["heavy"],
            f"its import also imports {', '.join(told['heavy'])}: import in the functions that need it",
        )

    def test_its_entry_point_names_the_class(self) -> None:
        """It is found by ``importlib.metadata`` under ``lmbridge.providers``."""
        if self.name is None:
            pytest.skip("the class of the tests gives no name of an entry point")
        points = [item for item in find_plugins(this_checkout()) if item.group == PROVIDER_GROUP]
        mine = [item for item in points if item.name == self.name]
        names = ", ".join(item.name for item in points)
        check(
            mine, f"no entry point {self.name!r} in the group {PROVIDER_GROUP!r}, only {names}; install it?"
        )
        check(len(mine) == 1, f"{len(mine)} distributions have an entry point {self.name!r}")
        loaded = mine[0].load()
        check(loaded is self.provider, f"the entry point {self.name!r} names {loaded!r}")

    def test_its_hooks_have_the_right_form(self) -> None:
        """Names, arguments and marks of the hooks; a class that needs no arguments; a sound ``info``."""
        name = self.name or "provider"
        plugins = Plugins([found(PROVIDER_GROUP, name, self.provider)], environ={})
        try:
            info = plugins.info(name)
            adapter = plugins.open("kit", name)
        except PluginError as error:
            raise AssertionError(f"lmbridge cannot use it: {error}") from error
        check(isinstance(info, ProviderInfo), "its attribute 'info' is no ProviderInfo")
        check(
            info.api <= API_VERSION, f"it was written for version {info.api} of the hooks, not {API_VERSION}"
        )
        check(info.title.strip(), "its info has no title")
        check("list_models" in adapter.names, "it has no list_models, so nobody can choose a model")
