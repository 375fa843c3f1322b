"""What an author says about a provider, and what every test begins with."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from lmbridge.chat import Message, Request
from lmbridge.testing.bench import Bench
from lmbridge.testing.server import FaultServer
from lmbridge.testing.turns import TOOLS, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lmbridge.catalog import ProviderInfo
    from lmbridge.errors import LMBridgeError
    from lmbridge.testing.replies import Reply

__all__ = ["Base"]


class Base:
    r"""The attributes and methods that a subclass overrides.

    Attributes:
        provider: the class under test.
        name: the entry point's name, which is the provider's; ``None``: it has none yet.
        model: a model that thinks, sees and calls tools as far as the provider can.
        blind_model: a listed model that reads no pictures, if there is one.
        api_key: the key that is sent; it must appear nowhere.
        settings: further settings of the connection.
        sdks: packages of foreign clients that the provider may import at once, and whose own generators do
            not count.
        websocket: answers come over a WebSocket; faults of plain HTTP are left out then.
        answer_route: which requests ask for answers, e.g. ``"POST /chat"``.
        not_found: what the server says of a model that it does not have; ``None``: as ``upstream`` says it,
            or not tested.
        comment: what the server may send again and again without meaning, e.g. ``b": still here\n\n"``.
        garbage: bytes in the middle of an answer that mean nothing.
        options: values for options whose own value the server would refuse; ``None`` leaves an option out.
        expected: classes of errors by the name of the fault, where the usual ones do not apply; or a sentence
            that says why the fault cannot happen.
        patience: seconds that any wait may take. Far more than needed; only a broken rule costs them.
    """

    provider: ClassVar[type]
    name: ClassVar[str | None] = None
    model: ClassVar[str] = "model"
    blind_model: ClassVar[str | None] = None
    api_key: ClassVar[str] = "kit-Zk3v9Qw7Lx2Rt8Yp"
    settings: ClassVar[Mapping[str, Any]] = {}
    sdks: ClassVar[tuple[str, ...]] = ()
    websocket: ClassVar[bool] = False
    answer_route: ClassVar[str] = "POST *"
    not_found: ClassVar[Reply | None] = None
    comment: ClassVar[bytes | None] = None
    garbage: ClassVar[bytes] = b'data: {"\xff{{\n\n'
    options: ClassVar[Mapping[str, Any]] = {}
    expected: ClassVar[Mapping[str, tuple[type[LMBridgeError], ...] | str]] = {}
    patience: ClassVar[float] = 20.0

    def script(self, server: FaultServer, turn: Turn) -> None:
        """Have the server answer so, in its own words: ``server.on("POST /chat", Reply.sse(…))``.

        Called before each call. With :meth:`upstream` there is nothing to do.
        """

    def request(self, turn: Turn) -> Request:
        """Return the request that ``turn`` answers; with :meth:`upstream`, its text has to ask for it."""
        return Request(
            model=self.model,
            messages=(Message.user("Hello!"),),
            tools=TOOLS if turn.tool_calls else (),
        )

    def after(self, text: str) -> re.Pattern[bytes]:
        """Return the pattern of the place on the wire where the piece ``text`` of an answer is complete."""
        return re.compile(re.escape(text.strip().encode()) + rb"[^\n]*\n\n?")

    async def stopped(self, bench: Bench) -> None:
        """Return when the server knows that nobody wants its last answer: the client has closed."""
        await bench.server.until(lambda: bench.answers()[-1].left, self.patience)

    @pytest.fixture
    def upstream(self) -> str | None:
        """The address of a working server; override it where no script is to speak the server's words."""
        return None

    @pytest.fixture
    def bench(self, upstream: str | None) -> Iterator[Bench]:
        """The fault server, and what connects the provider with it."""
        before = dict(os.environ)
        with FaultServer(upstream) as server:
            yield Bench(self, server)
        if dict(os.environ) != before:  # the next test is to see it, too
            os.environ.clear()
            os.environ.update(before)

    # -- for the tests ---------------------------------------------------------------------------------

    @property
    def info(self) -> ProviderInfo:
        """What the provider says about itself."""
        info: ProviderInfo = self.provider.info  # type: ignore[attr-defined]
        return info

    def needs(self, feature: str) -> None:
        """Skip the test if the provider says that it lacks the feature."""
        if getattr(self.info.capabilities, feature) is False:
            pytest.skip(f"{self.info.title} says that it has no {feature.replace('_', ' ')}")
