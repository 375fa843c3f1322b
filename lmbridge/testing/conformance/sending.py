"""What is sent: pictures and options, or a refusal that says so."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from lmbridge.chat import Message, Options, Request
from lmbridge.errors import ConfigurationError, LMBridgeError, PluginError, UnsupportedFeature
from lmbridge.images import Image, ImageBudget
from lmbridge.testing.bench import CONNECTION, Bench
from lmbridge.testing.checks import check
from lmbridge.testing.conformance.base import Base
from lmbridge.testing.turns import TALK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lmbridge.bridge import Bridge
    from lmbridge.events import Result

__all__ = ["Sending"]

#: Values that occur nowhere else on the wire.
_VALUES: Mapping[str, Any] = {
    "temperature": 0.4375,
    "top_p": 0.8125,
    "top_k": 3471,
    "min_p": 0.0625,
    "max_tokens": 7531,
    "stop": ("STOP-MARK",),
    "seed": 424_243,
    "presence_penalty": 0.3125,
    "frequency_penalty": 0.6875,
    "repeat_penalty": 1.1875,
    "context_length": 6143,
    "ttl": 4327,
    "load": {"kitLoadSetting": 1},
    "draft_model": "kit-draft-model",
    "extra": {"kit_extra_setting": 1},
}


def _marks(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        return value
    return map(str, value) if isinstance(value, tuple) else (json.dumps(value).strip('"'),)


def _picture() -> Image:
    import numpy as np  # noqa: PLC0415 - 100 ms that only these tests need

    return Image.from_array(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3))


def _seen(bench: Bench) -> bytes:
    return b"\n".join(asked.bytes for asked in bench.server.requests).replace(rb"\/", b"/")


class Sending(Base):
    """Nothing is dropped in silence: it is sent, or refused, or a note says so."""

    def test_pictures_are_sent_or_refused(self, bench: Bench) -> None:
        """Where pictures are refused, nothing of the request may have been sent; else their bytes are."""
        picture = _picture()
        request = _with(bench.expect(TALK), picture)
        refused = self.info.capabilities.images is False

        async def work(bridge: Bridge) -> Result | UnsupportedFeature:
            try:
                return await bridge.generate(CONNECTION, request)
            except UnsupportedFeature as error:
                return error

        answer = bench.run(work)
        if isinstance(answer, UnsupportedFeature):
            check(not bench.answers(), "the picture was refused only after something had been sent")
            check(refused, f"info says that pictures can be sent, but {answer}; say images=False")
            return
        check(not refused, "info says images=False, yet a picture was not refused")
        sent = picture.encode(ImageBudget()).data
        seen = _seen(bench)
        check(
            base64.b64encode(sent) in seen or sent in seen,
            "the picture was neither refused nor sent: the server has not seen its bytes",
        )

    def test_pictures_for_a_model_that_cannot_see_are_refused(self, bench: Bench) -> None:
        """``list_models`` says which models see, and the core refuses for the others."""
        self.needs("images")
        if self.blind_model is None:
            pytest.skip("the class of the tests names no blind_model")
        request = _with(bench.expect(TALK), _picture()).replace(model=self.blind_model)

        async def work(bridge: Bridge) -> bool:
            try:
                await bridge.generate(CONNECTION, request)
            except UnsupportedFeature:
                return True
            return False

        check(
            bench.run(work),
            f"a picture for {self.blind_model!r} was not refused: does list_models say images=False of it?",
        )
        check(not bench.answers(), "the picture was refused only after something had been sent")

    def test_every_option_is_sent_refused_or_noted(self, bench: Bench) -> None:
        """Each of ``info.options``, one by one, with a value that must be seen on the wire."""
        if self.info.options is None:
            pytest.skip("info.options is None: nobody knows which options the server honours")
        named = [name for name in sorted(self.info.options) if name in _VALUES]
        values = {name: self.options.get(name, _VALUES[name]) for name in named}
        base = bench.expect(TALK)

        async def work(bridge: Bridge) -> list[str]:
            await bench.warm_up(bridge)
            return [
                name
                for name, value in values.items()
                if value is not None and not await _is_told(bench, bridge, base, name, value)
            ]

        dropped = bench.run(work)
        check(
            not dropped,
            f"info.options names {', '.join(dropped)}, but the server has not seen it, and no error or note "
            "says so",
        )

    def test_what_it_has_not_is_refused_before_anything_is_sent(self, bench: Bench) -> None:
        """An option that ``info`` does not name is an error, or a note with ``on_unsupported="adapt"``."""
        named = self.info.options
        if named is None or not set(_VALUES) - named:
            pytest.skip("info names every option, or none at all")
        name = min(set(_VALUES) - named)
        request = _with_option(bench.expect(TALK), name, _VALUES[name])

        async def work(bridge: Bridge) -> tuple[bool, Result]:
            try:
                await bridge.generate(CONNECTION, request)
                refused = False
            except UnsupportedFeature:
                refused = not bench.answers()
            return refused, await bridge.generate(CONNECTION, request.replace(on_unsupported="adapt"))

        refused, adapted = bench.run(work)
        check(refused, f"{name} is not in info.options, and was not refused before something was sent")
        check(
            any(name in note for note in adapted.notes),
            f"no note says that {name} was left out: {adapted.notes}",
        )


def _with(request: Request, picture: Image) -> Request:
    text = request.messages[-1].text
    return request.replace(messages=(*request.messages[:-1], Message.user(text, images=picture)))


def _with_option(request: Request, name: str, value: Any) -> Request:
    return request.replace(options=msgspec.structs.replace(Options(), **{name: value}))


async def _is_told(bench: Bench, bridge: Bridge, base: Request, name: str, value: Any) -> bool:
    notes: tuple[str, ...] = ()
    try:
        notes = (await bridge.generate(CONNECTION, _with_option(base, name, value))).notes
    except (UnsupportedFeature, ConfigurationError):
        return True  # refused
    except PluginError:
        raise
    except LMBridgeError:
        pass  # the server's own refusal: it has seen it, or something else is wrong
    seen = _seen(bench)
    return any(name in note for note in notes) or any(mark.encode() in seen for mark in _marks(value))
