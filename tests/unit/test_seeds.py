"""Seeds that a server would not take as they are."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from lmbridge.bridge import Bridge
from lmbridge.catalog import ProviderInfo
from lmbridge.chat import Message, Options, Request
from lmbridge.errors import UnsupportedFeature
from lmbridge.events import Event, Finish, TextDelta
from lmbridge.hookspecs import hookimpl

LARGEST = 2**32 - 1


class Acme:
    info = ProviderInfo(title="Acme", options=frozenset({"seed"}), max_seed=LARGEST)

    @hookimpl
    async def stream(self, request: Request, context: Any) -> AsyncIterator[Event]:
        yield TextDelta(str(request.options.seed))
        yield Finish("stop")


def asking(seed: int, on_unsupported: Any = "adapt") -> Request:
    return Request(messages=[Message.user("?")], options=Options(seed=seed), on_unsupported=on_unsupported)


@pytest.mark.parametrize("seed", [0, 1, LARGEST])
async def test_a_seed_that_fits_is_sent_as_it_is(make_bridge: Callable[..., Bridge], seed: int) -> None:
    result = await make_bridge({"acme": Acme}).generate("acme", asking(seed, "error"))
    assert (result.text, result.notes) == (str(seed), ())
    assert result.options == Options(seed=seed)


@pytest.mark.parametrize("seed", [LARGEST + 1, 2**53 - 1, -1])
async def test_one_that_does_not_is_folded_with_a_note(make_bridge: Callable[..., Bridge], seed: int) -> None:
    result = await make_bridge({"acme": Acme}).generate("acme", asking(seed))
    folded = seed % (LARGEST + 1)
    assert result.text == str(folded)
    assert result.notes == (f"Acme takes seeds from 0 to {LARGEST}, not {seed}; {folded} was sent",)
    assert result.options == Options(seed=folded)


async def test_or_refused(make_bridge: Callable[..., Bridge]) -> None:
    with pytest.raises(UnsupportedFeature, match="takes seeds from 0 to") as caught:
        await make_bridge({"acme": Acme}).generate("acme", asking(2**40, "error"))
    assert caught.value.features == ("seed",)


async def test_without_a_seed_at_all_it_is_left_out(make_bridge: Callable[..., Bridge]) -> None:
    class Seedless(Acme):
        info = ProviderInfo(title="Seedless", options=frozenset(), max_seed=LARGEST)

    result = await make_bridge({"acme": Seedless}).generate("acme", asking(2**40))
    assert result.notes == ("left out: Seedless has no seed",)
