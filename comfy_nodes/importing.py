"""Which copy of lmbridge the nodes work with.

A clone in ``custom_nodes`` is neither installed nor on ``sys.path``, and another lmbridge may be installed
beside it. One that is imported already is used; else an installed one that is not older than this pack; else
the clone's own.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from importlib.util import find_spec, spec_from_file_location
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from pathlib import Path
    from types import ModuleType

__all__ = ["is_older", "make_importable", "pack_version"]

_NAME = "lmbridge"
_VERSION = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)


class _CloneFinder:
    """Makes the clone's ``lmbridge`` importable, and nothing else of the clone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Implement the protocol of ``sys.meta_path``."""
        del path, target
        if name != _NAME:
            return None
        return spec_from_file_location(
            name, self.folder / "__init__.py", submodule_search_locations=[str(self.folder)]
        )


def pack_version(root: Path) -> str:
    """Return the version of the clone at ``root``."""
    # Parsing the whole file would take longer than all the rest of the pack's start.
    found = _VERSION.search((root / "pyproject.toml").read_text(encoding="utf-8"))
    return found[1] if found else "0"


def is_older(version: str, than: str) -> bool:
    """Whether ``version`` is older; only the leading numbers count."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3]]

    return numbers(version) < numbers(than)


def make_importable(root: Path) -> None:
    """Let ``import lmbridge`` work. Idempotent; imports nothing.

    Args:
        root: the folder of the pack.

    Raises:
        ImportError: an lmbridge that is older than the pack is imported already, and would be used.
    """
    wanted = pack_version(root)
    imported = sys.modules.get(_NAME)
    if imported is not None:
        version = str(getattr(imported, "__version__", "0"))
        if is_older(version, wanted):
            raise ImportError(
                f"LM Bridge {wanted} cannot use the older lmbridge {version} that is imported already; "
                "run: pip install --upgrade lmbridge"
            )
        return
    installed = _installed_version()
    if installed is not None and not is_older(installed, wanted) and find_spec(_NAME) is not None:
        return
    if not any(isinstance(finder, _CloneFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _CloneFinder(root / _NAME))


def _installed_version() -> str | None:
    try:
        return metadata.version(_NAME)
    except metadata.PackageNotFoundError:
        return None
