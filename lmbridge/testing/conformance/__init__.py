"""The conformance kit: the tests that every provider has to pass."""

from __future__ import annotations

from lmbridge.testing.conformance.answers import Answers
from lmbridge.testing.conformance.deadlines import Deadlines
from lmbridge.testing.conformance.failing import Failing
from lmbridge.testing.conformance.listings import Listings
from lmbridge.testing.conformance.loops import Loops
from lmbridge.testing.conformance.registration import Registration
from lmbridge.testing.conformance.sending import Sending
from lmbridge.testing.conformance.stopping import Stopping

__all__ = ["ProviderConformance"]


class ProviderConformance(Registration, Answers, Sending, Stopping, Failing, Deadlines, Loops, Listings):
    """Proves a provider; subclass it in a test module.

    ::

        class TestAcme(ProviderConformance):
            provider = Acme
            name = "acme"
            model = "acme-1"

            def script(self, server, turn):
                server.on("GET /models", Reply.json([{"name": "acme-1", "sees": True}]))
                pieces = [{"text": piece} for piece in turn.text]
                done = {"done": turn.finish, "tokens": turn.completion_tokens}
                server.on("POST /chat", Reply.ndjson(*pieces, done))

    What the provider's ``info`` says that it lacks is skipped, with a sentence. What can be set is described
    at :class:`~lmbridge.testing.conformance.base.Base`.
    """
