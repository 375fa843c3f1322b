"""The provider keeps lmbridge's contract, and speaks Acme's protocol."""

from collections.abc import Iterator

import pytest
from lmbridge_acme import Acme

import lmbridge
from lmbridge.testing import FaultServer, ProviderConformance, Reply, Turn

MODELS = Reply.json([{"name": "acme-1", "context": 8192, "sees": True}, {"name": "acme-mini", "sees": False}])
ASK = lmbridge.Request(model="acme-1", messages=(lmbridge.Message.user("Hello!"),))


class TestAcme(ProviderConformance):
    """The whole contract, in front of a server that also misbehaves."""

    provider = Acme
    name = "acme"
    model = "acme-1"
    blind_model = "acme-mini"
    comment = b"\n"

    def script(self, server: FaultServer, turn: Turn) -> None:
        """Have the server answer as Acme's does."""
        pieces = [{"text": piece} for piece in turn.text]
        done = {"done": turn.finish, "tokens": turn.completion_tokens}
        server.on("GET /models", MODELS).on("POST /chat", Reply.ndjson(*pieces, done))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A server that answers as Acme's does."""
    lines = [{"loading": 0.5}, {"text": "Ahoy"}, {"done": "stop", "tokens": 1}]
    with FaultServer() as acme:
        yield acme.on("GET /models", MODELS).on("POST /chat", Reply.ndjson(*lines))


@pytest.fixture
def bridge(server: FaultServer) -> Iterator[lmbridge.sync.Bridge]:
    """A bridge to it; ``acme`` is found by its entry point."""
    with lmbridge.sync.Bridge({"acme": {"base_url": server.url, "accent": "pirate"}}) as bridge:
        yield bridge


def test_it_sends_what_the_protocol_asks_for(bridge: lmbridge.sync.Bridge, server: FaultServer) -> None:
    bridge.generate("acme", ASK.replace(options=lmbridge.Options(temperature=0.5)))
    assert server.find("POST /chat")[0].json == {
        "model": "acme-1",
        "turns": [{"role": "user", "text": "Hello!", "images": []}],
        "accent": "pirate",
        "temperature": 0.5,
    }


def test_it_reports_the_load(bridge: lmbridge.sync.Bridge) -> None:
    with bridge.stream("acme", ASK) as events:
        assert next(events) == lmbridge.Progress("loading model", 0.5)


def test_an_error_of_the_server_is_told(bridge: lmbridge.sync.Bridge, server: FaultServer) -> None:
    server.on("POST /chat", Reply.ndjson({"error": "out of rum"}))
    with pytest.raises(lmbridge.ServerError, match="out of rum"):
        bridge.generate("acme", ASK)
