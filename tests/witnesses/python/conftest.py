"""Emulators for the official Python clients, and what all tests of these clients do."""

import inspect
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import lmstudio as lms
import pytest
import pytest_asyncio

from lmbridge.emulator import Emulator


@pytest.fixture(autouse=True)
def whole_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A witness is the client as it is, without the filter that our provider may have put on its log."""
    for name in ("AsyncWebsocketHandler", "_AsyncLMStudioWebsocket"):
        monkeypatch.setattr(logging.getLogger(name), "filters", [])


@pytest_asyncio.fixture
async def emulator(lmstudio_emulator: Emulator) -> Emulator:
    """A plain emulator at full speed."""
    return lmstudio_emulator


@pytest_asyncio.fixture
async def client(emulator: Emulator) -> AsyncIterator[lms.AsyncClient]:
    """LM Studio's asynchronous client of ``emulator``."""
    async with lms.AsyncClient(emulator.address) as client:
        yield client


@pytest_asyncio.fixture
async def openai_client(emulator: Emulator) -> AsyncIterator[Any]:
    """OpenAI's asynchronous client of ``emulator``, which does not ask twice."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{emulator.url}/v1", api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def consumed() -> Callable[..., Any]:
    """Read a stream to its end and return its pieces by their kind, and its result."""

    async def read(stream: Any) -> tuple[dict[str, str], Any]:
        pieces: dict[str, str] = {}
        async for fragment in stream:
            pieces[fragment.reasoning_type] = pieces.get(fragment.reasoning_type, "") + fragment.content
        return pieces, stream.result()

    return read


@pytest.fixture(scope="session")
def takes_tokens() -> bool:
    """Whether this version of the client takes an API token: 1.5.0 does not, 1.6.0b1 does."""
    return "api_token" in inspect.signature(lms.AsyncClient).parameters
