"""Emulators for the official clients, and pictures."""

import base64
import io
import random
from collections.abc import Callable

import pytest
from PIL import Image

from lmbridge.emulator.pytest_plugin import (
    lmstudio_emulator,
    lmstudio_emulator_settings,
    lmstudio_emulator_thread,
    make_lmstudio_emulator,
)

# The plugin's own fixtures, whether or not the package is installed.
__all__ = [
    "lmstudio_emulator",
    "lmstudio_emulator_settings",
    "lmstudio_emulator_thread",
    "make_lmstudio_emulator",
]


def encoded(size: tuple[int, int], colour: str | None = "red", kind: str = "PNG") -> bytes:
    """Return an encoded picture; without a colour it is noise, which does not compress."""
    if colour is None:
        noise = random.Random(7).randbytes(size[0] * size[1] * 3)  # noqa: S311 - a picture
        image = Image.frombytes("RGB", size, noise)
    else:
        image = Image.new("RGB", size, colour)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """A factory of encoded pictures: ``picture((64, 48), "red", "PNG")``."""
    return encoded


@pytest.fixture(scope="session")
def large_picture() -> bytes:
    """A picture of more than 10 MB."""
    return encoded((1900, 1800), None)


@pytest.fixture
def data_url() -> Callable[..., str]:
    """A factory of data URLs."""

    def make(data: bytes, kind: str = "png") -> str:
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

    return make
