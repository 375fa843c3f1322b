"""What is fuzzed: functions of any bytes that raise ``AssertionError`` if a promise is broken.

:mod:`fuzz.run` feeds them with what a fuzzer finds, and the ordinary tests with the corpus that is kept.
"""

import random
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from lmbridge.errors import ConfigurationError, ProtocolError
from lmbridge.events import ReasoningDelta, TextDelta
from lmbridge.reasoning import ReasoningSplitter
from lmbridge.settings.addresses import normalise_address, split_address
from lmbridge.sse import ServerSentEvent, SSEDecoder

__all__ = ["TARGETS"]

_Stream = TypeVar("_Stream", bytes, str)

#: A stream longer than this is not cut into single bytes: that would only be slow.
_BYTEWISE = 1024
_SMALL_LIMIT = 64
#: What an event stream's decoder may keep beside a line and an event: an event that it will parse again.
_REPARSE = 8192
_HELD = 540


def _divisions(stream: _Stream) -> Iterable[Sequence[_Stream]]:
    """Yield the stream as a whole, and divided in several ways; the same ones each time."""
    yield [stream]
    for size in (1, 3, 61):
        if len(stream) <= _BYTEWISE * size:
            yield [stream[at : at + size] for at in range(0, len(stream), size)]
    seed = zlib.crc32(stream if isinstance(stream, bytes) else stream.encode("utf-8", "replace"))
    lot = random.Random(seed)  # noqa: S311 - it has to be the same each time
    for _ in range(2):
        cuts = sorted(lot.randrange(len(stream) + 1) for _ in range(lot.randrange(1, 12)))
        yield [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


# -- server-sent events ------------------------------------------------------------------------------------


def _reference(stream: bytes) -> list[ServerSentEvent]:
    """Return the events of a stream as the HTML standard reads it, slowly."""
    lines = re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf"))
    lines.pop()
    events: list[ServerSentEvent] = []
    name, data = b"", list[bytes]()
    for line in lines:
        if not line:
            if data:
                events.append((name or None, b"\n".join(data)))
            name, data = b"", []
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return events


def _decoded(blocks: Iterable[bytes], limit: int) -> tuple[list[ServerSentEvent], int] | None:
    """Return the events and the number of comments, or ``None`` if something is longer than the limit."""
    decoder = SSEDecoder(limit=limit)
    events: list[ServerSentEvent] = []
    comments = 0
    try:
        for block in blocks:
            events += decoder.feed(block)
            assert decoder.comments >= comments
            comments = decoder.comments
            kept = (
                len(decoder._tail)
                + len(decoder._line)
                + len(decoder._data or b"")
                + len(decoder._name or b"")
            )
            assert kept <= max(_REPARSE, limit) + 3 * limit + 16, "memory is not bounded"
        decoder.close()
    except ProtocolError:
        return None
    return events, decoder.comments


def sse(stream: bytes) -> None:
    """Any division of any stream gives the events of the standard, in bounded memory."""
    expected = _reference(stream)
    comments = set()
    for blocks in _divisions(stream):
        decoded = _decoded(blocks, len(stream) + 1)
        assert decoded is not None
        assert decoded[0] == expected
        comments.add(decoded[1])
    assert len(comments) == 1
    limited = [_decoded(blocks, _SMALL_LIMIT) for blocks in _divisions(stream)]
    assert len({decoded is None for decoded in limited}) == 1, "what is too long depends on the division"
    if limited[0] is not None:
        assert limited[0][0] == expected
        assert all(len(data) <= _SMALL_LIMIT for _, data in expected)


# -- reasoning ---------------------------------------------------------------------------------------------


def _split(pieces: Iterable[str], *, starts_inside: bool) -> tuple[str, str, str, bool]:
    splitter = ReasoningSplitter(starts_inside=starts_inside)
    events: list[ReasoningDelta | TextDelta] = []
    for piece in pieces:
        events += splitter.feed(piece)
        assert len(splitter._held) <= _HELD, "memory is not bounded"
    events += splitter.close()
    assert all(event.text for event in events)
    reasoning = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    return reasoning, text, splitter.note, splitter.unclosed


def reasoning(data: bytes) -> None:
    """Any division of any answer gives the same thinking and the same text, and makes up nothing."""
    answer = data.decode("utf-8", "replace")
    for inside in (False, True):
        whole = _split([answer], starts_inside=inside)
        assert len(whole[0]) + len(whole[1]) <= len(answer)
        for pieces in _divisions(answer):
            assert _split(pieces, starts_inside=inside) == whole


# -- addresses ---------------------------------------------------------------------------------------------

_NORMAL = re.compile(
    r"https?://(\[[0-9a-f:.]+(%[\w.~-]+)?\]|[a-z0-9._-]+)(:\d{1,5})?(/[^/?#@\s\\]+)*", re.ASCII
)
_SECRET = re.compile(r"[A-Za-z0-9]{12,}")


def _check_refusal(text: str, error: ConfigurationError) -> None:
    shown = f"{error} {error!r}"
    assert not any(part in shown for part in _SECRET.findall(text) if part not in _KNOWN_WORDS)
    assert error.hint


def addresses(data: bytes) -> None:
    """Any text is normalised, for good and as others read it, or refused without being repeated."""
    text = data.decode("utf-8", "surrogatepass" if data.isascii() else "replace")
    try:
        address = normalise_address(text)
    except ConfigurationError as error:
        _check_refusal(text, error)
        return
    assert _NORMAL.fullmatch(address), address
    assert normalise_address(address) == address
    parts, read = split_address(address), urlsplit(address)
    assert (read.scheme, read.path) == (parts.scheme, parts.prefix)
    assert (read.hostname or "").lower() == parts.host.lower()  # the zone of an IPv6 address keeps its case
    assert (read.port or parts.port) == parts.port
    assert not any((read.username, read.password, read.query, read.fragment))


#: What stands in errors by itself.
_KNOWN_WORDS = frozenset({"ConfigurationError", "international"})

TARGETS: dict[str, Callable[[bytes], None]] = {"addresses": addresses, "reasoning": reasoning, "sse": sse}
