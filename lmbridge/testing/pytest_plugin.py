"""pytest fixtures of the kit for plugin authors.

The plugin is loaded by every pytest of an environment that has lmbridge, so it imports nothing until a
fixture is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmbridge.testing import FaultServer


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """A running :class:`lmbridge.testing.FaultServer`, for tests with a loop and without."""
    from lmbridge.testing import FaultServer  # noqa: PLC0415 - only who uses the fixture pays

    with FaultServer() as server:
        yield server
