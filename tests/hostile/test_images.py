"""Pictures that are none, or far too much: refused before anything is sent, in bounded memory."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import PIL.Image
import pytest

from lmbridge import ImageRejected, Message, Request
from lmbridge.images import Image, ImageBudget

MIB = 1024 * 1024
SIDE = 30_000


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def zeros(size: int) -> bytes:
    """Return so many zeros, packed; never all of them in memory."""
    packer = zlib.compressobj(9)
    blocks = [packer.compress(bytes(MIB)) for _ in range(size // MIB)]
    return b"".join([*blocks, packer.flush()])


def saved(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (200, 10, 10)).save(out, kind, **options)
    return out.getvalue()


def jpeg(width: int, height: int) -> bytes:
    """Return a JPEG that claims another size."""
    data = bytearray(saved("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    data = bytearray(saved("BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def gif(width: int, height: int) -> bytes:
    data = bytearray(saved("GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


PICTURES = {
    "nothing": lambda: b"",
    "a text": lambda: b"This is no picture at all.",
    "a web page": lambda: b"<!DOCTYPE html><html></html>",
    "a program": lambda: b"\x7fELF" + bytes(5000),
    "a ZIP archive": lambda: b"PK\x03\x04" + bytes(500),
    "an SVG drawing": lambda: (
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    ),
    "only a signature": lambda: b"\x89PNG\r\n\x1a\n",
    "half a PNG": lambda: saved("PNG")[:40],
    "half a JPEG": lambda: saved("JPEG")[:300],
    "a PNG of no size": lambda: png(0, 0, zlib.compress(b"")),
    "a PNG of no height": lambda: png(10, 0, zlib.compress(b"")),
    "a JPEG of no size": lambda: jpeg(0, 0),
    "a BMP of no size": lambda: bmp(0, 0),
    "a PNG of 30,000 x 30,000": lambda: png(SIDE, SIDE, zeros(900 * MIB)),
    "a PNG that claims 30,000 x 30,000": lambda: png(SIDE, SIDE, zlib.compress(b"\0")),
    "a PNG of two thousand million pixels a side": lambda: png(2**31 - 1, 2**31 - 1, zlib.compress(b"\0")),
    "a JPEG that claims 30,000 x 30,000": lambda: jpeg(SIDE, SIDE),
    "a BMP that claims 30,000 x 30,000": lambda: bmp(SIDE, SIDE),
    "a BMP of negative size": lambda: bmp(-SIDE, -SIDE),
    "a GIF that claims 65,535 x 65,535": lambda: gif(65535, 65535),
    "an array of no pixels": lambda: np.zeros((0, 0, 3), dtype=np.uint8),
    "an array of no height": lambda: np.zeros((0, 10, 3), dtype=np.uint8),
    "an empty batch": lambda: np.zeros((0, 4, 4, 3), dtype=np.uint8),
    "a huge array": lambda: np.broadcast_to(np.zeros((1, 1, 3), dtype=np.uint8), (SIDE, SIDE, 3)),
    "an array of five axes": lambda: np.zeros((1, 1, 2, 2, 3), dtype=np.uint8),
    "an array of texts": lambda: np.full((2, 2, 3), "x"),
    "an array of complex numbers": lambda: np.zeros((2, 2, 3), dtype=complex),
    "a PIL picture of 30,000 x 30,000": lambda: PIL.Image.new("1", (SIDE, SIDE)),
    "a number": lambda: 7,
    "a mapping": lambda: {"image": 1},
    "a path that leads nowhere": lambda: "/no/such/picture.png",
    "a folder": lambda: "/",
    "a URL": lambda: "https://example.com/cat.png?key=hunter2",
    "a file URL": lambda: "file:///etc/passwd",
    "a broken data URL": lambda: "data:image/png;base64,@@@@",
    "a data URL of a text": lambda: "data:text/plain;base64,aGVsbG8=",
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_that_is_none(name, fails):
    """It is refused when the message is made: whatever the provider is, nothing can be sent."""
    source = PICTURES[name]()
    tracemalloc.start(1)
    try:
        with pytest.raises(ImageRejected) as caught:
            # Some damage only shows when the picture is encoded, which happens before a call is sent.
            [image.encode() for image in Message.user("What is this?", images=source).images] or _no_picture(
                name
            )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    fails(caught.value, ImageRejected, connection=None, secrets=["hunter2", "root:"])
    assert peak < 300 * MIB, f"{peak / MIB:.0f} MiB"


def _no_picture(name: str) -> None:
    """An empty batch is a message without pictures, which is what it says."""
    assert name == "an empty batch"
    raise ImageRejected("no picture", hint="none")


def test_a_png_whose_pixels_unpack_to_far_more_than_it_has(fails):
    """It may be a picture for the first 8 x 8 pixels; the rest must cost no memory."""
    bomb = saved("PNG")[:33] + chunk(b"IDAT", zeros(512 * MIB)) + chunk(b"IEND", b"")
    tracemalloc.start(1)
    try:
        for budget in (ImageBudget(), ImageBudget(max_side=4), ImageBudget(format="png", max_side=4)):
            try:
                assert len(Image.from_bytes(bomb).encode(budget).data) <= len(bomb)
            except ImageRejected as exc:
                fails(exc, ImageRejected, connection=None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * MIB, f"{peak / MIB:.0f} MiB"


async def test_a_picture_that_turns_out_to_be_damaged_is_refused_before_anything_is_sent(
    target, faulty, meet
):
    """Its checksums are right and its pixels are not, which shows only when they are unpacked."""
    damaged = png(64, 64, zlib.compress(b"\xff" * 65 * 64)[:-10] + bytes(10))
    message = Message.user("What is this?", images=[Image.from_bytes(damaged)])
    server = await faulty(target)
    # With a limit that the file does not meet as it is.
    met = await meet(target, server.url, Request(model="m", messages=[message]), image_max_side=8)
    assert isinstance(met.error, ImageRejected), met.error
    assert not server.find("POST *")
    assert not server.find("GET /llm")


async def test_a_budget_that_holds_no_picture(target, faulty, meet):
    server = await faulty(target)
    message = Message.user("What is this?", images=[np.zeros((64, 64, 3), dtype=np.uint8)])
    met = await meet(target, server.url, Request(model="m", messages=[message]), image_max_bytes=10)
    assert isinstance(met.error, ImageRejected), met.error
    assert not server.find("POST *")
