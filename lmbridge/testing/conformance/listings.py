"""Lists of models, whole and partial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmbridge.errors import LMBridgeError, PluginError
from lmbridge.testing.bench import CONNECTION, Bench
from lmbridge.testing.checks import check, listening
from lmbridge.testing.conformance.base import Base
from lmbridge.testing.faults import Fault
from lmbridge.testing.replies import Reply
from lmbridge.testing.turns import TALK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmbridge.bridge import Bridge
    from lmbridge.catalog import Listing
    from lmbridge.operations import Health

__all__ = ["Listings"]

_WRONG: Mapping[str, Fault | Reply] = {
    "dropped": Fault.drop(at="request"),
    "a web page": Reply.text("<!doctype html><title>Router</title>"),
    "failed": Reply.json({"error": {"message": "Out of order"}}, status=500),
    "another JSON": Reply.json({"unexpected": [1, None, "x"]}),
}


class Listings(Base):
    """Whoever chooses a model sees what there is, and why something is missing."""

    def test_the_models_are_listed(self, bench: Bench) -> None:
        """With names that can be asked for, each once."""
        bench.expect(TALK)

        async def work(bridge: Bridge) -> Listing:
            return await bridge.list_models(CONNECTION)

        listing = bench.run(work)
        check(not listing.errors, f"a good server cannot be listed: {listing.errors}")
        names = [model.id for model in listing.models]
        check(self.model in names, f"the model {self.model!r} of the tests is not listed, only {names}")
        check(len(set(names)) == len(names), f"a model is listed twice: {names}")

    def test_a_dead_server_costs_only_its_own_models(self, bench: Bench) -> None:
        """Two connections of this provider; one of them leads nowhere."""
        bench.expect(TALK)
        bridge = bench.bridge(dead={"base_url": "http://127.0.0.1:9"})

        async def work(bridge: Bridge) -> Listing:
            return await bridge.list_models(CONNECTION, "dead")

        listing = bench.run(work, bridge=bridge)
        check(
            any(model.connection == CONNECTION for model in listing.models),
            "the good server's models are missing",
        )
        error = listing.errors.get("dead")
        check(error is not None, "a server that does not exist is listed without an error")
        check(not isinstance(error, PluginError), f"a dead server is no bug of the plugin: {error!r}")
        check(error is not None and error.hint, f"the error has no hint: {error!r}")

    def test_its_health_is_told(self, bench: Bench) -> None:
        """``health`` says whether the server answers, and is no error where it does not."""
        if not hasattr(self.provider, "health"):
            pytest.skip("the provider has no 'health'")
        bench.expect(TALK)

        async def work(bridge: Bridge) -> tuple[Health, Health]:
            well = await bridge.health(CONNECTION)
            bench.server.give_up()
            await bench.server.until(lambda: bench.server.open == 0, self.patience)
            bench.server.fail(Fault.drop(at="accept"))
            return well, await bridge.health(CONNECTION)

        well, ill = bench.run(work)
        check(well.ok, f"a server that answers is said to be ill: {well.detail!r}")
        check(not ill.ok, "a server that drops every connection is said to be well")
        check(ill.detail.strip(), "health says that the server is ill, and not why")

    @pytest.mark.parametrize("fault", _WRONG)
    def test_a_list_that_fails_is_an_error_with_a_hint(self, bench: Bench, fault: str) -> None:
        """Whatever comes in the place of a list."""
        bench.expect(TALK)
        wrong = _WRONG[fault]

        async def work(bridge: Bridge) -> LMBridgeError | None:
            if isinstance(wrong, Fault):
                bench.server.fail(wrong)
            else:
                bench.server.on("*", wrong)
            listing = await bridge.list_models(CONNECTION)
            if not listing.errors and fault == "another JSON":
                check(not listing.models, f"out of JSON that is no list came {listing.models}")
                pytest.skip("the provider makes an empty list of it")
            return listing.errors.get(CONNECTION)

        with listening() as heard:
            error = bench.run(work)
        check(error is not None, f"{fault}: the list must be an error, it came out well")
        check(not isinstance(error, PluginError), f"{fault}: the provider lets something slip: {error!r}")
        check(error is not None and error.hint.strip(), f"{fault}: the error has no hint: {error!r}")
        places = heard.places(self.api_key, error)
        check(not places, f"{fault}: the key can be read in {', '.join(places)}")
