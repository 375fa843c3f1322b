"""Running the emulator for people: a greeting, then a line for each request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import lmbridge
from lmbridge.cli.terminal import clean, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmbridge.emulator import Emulator, RequestRecord, Settings

__all__ = ["USUAL_PORT", "make_settings", "serve"]

#: LM Studio's, where the plugins look without being told.
USUAL_PORT = 1234
#: Requests that are remembered for the log; tests, which want all of them, use the library.
_REMEMBERED = 200


def make_settings(
    switches: Mapping[str, Any], *, tokens: Sequence[str], loaded: Sequence[str], fast: bool
) -> Settings:
    """Return the emulator's settings.

    Args:
        switches: changed behaviour, by name.
        tokens: API tokens of which one is demanded; none: no token is.
        loaded: models that are loaded from the start.
        fast: let nothing take time.

    Raises:
        ConfigurationError: a token has not the form of one.
    """
    from lmbridge.emulator import ApiToken, Pace, Settings  # noqa: PLC0415 - aiohttp is not for --help

    try:
        accepted = tuple(ApiToken(token) for token in tokens)
    except ValueError as exc:
        raise lmbridge.ConfigurationError(
            "--token: this has not the form of an API token", hint="'lmbridge emulator --help' shows the form"
        ) from exc
    pace = Pace.instant() if fast else Pace()
    changes = {"pace": pace, "journal_limit": _REMEMBERED, **switches}
    return Settings(tokens=accepted, loaded=tuple(loaded), **changes)


async def serve(host: str, port: int, settings: Settings) -> None:
    """Run an emulator until the calling task is cancelled; write its address, and a line for each request.

    Raises:
        ConfigurationError: it cannot listen there, or a model that is to be loaded is not in the catalogue.
    """
    from lmbridge.emulator import Emulator  # noqa: PLC0415 - as above

    server = Emulator(settings, host=host, port=port)
    try:
        await server.start()
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise lmbridge.ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}",
            hint="choose another port; --port 0 takes a free one",
        ) from exc
    except ValueError as exc:
        raise lmbridge.ConfigurationError(f"--load: {exc}") from exc
    try:
        write(_greeting(server))
        await _log(server)
    finally:
        await server.aclose()


def _greeting(server: Emulator) -> str:
    variables = (
        "LMBRIDGE_CONNECTIONS__EMULATOR__PROVIDER=lmstudio-rest "
        f"LMBRIDGE_CONNECTIONS__EMULATOR__BASE_URL={server.url} "
    )
    usual = server.port == USUAL_PORT
    return (
        f"LM Studio emulator: {server.url}\n"
        f"  lmbridge  {'lmbridge chat Hello' if usual else f'{variables}lmbridge chat -c emulator Hello'}\n"
        f"  openai    OpenAI(base_url='{server.url}/v1', api_key='any')\n"
        f"  lmstudio  lmstudio.Client('{server.address}')\n"
        f"{_told_switches(server)}"
        "Ctrl-C stops it.\n"
    )


def _told_switches(server: Emulator) -> str:
    return f"  switches  {server.url}/_emulator/switches\n" if server.settings.admin else ""


async def _log(server: Emulator) -> None:
    """Write a line for each request that is over, until cancelled."""
    over: asyncio.Queue[RequestRecord] = asyncio.Queue()

    def news(record: RequestRecord | None, what: str) -> None:
        if record is not None and what == record.state != "open":
            over.put_nowait(record)

    server.watch(news)
    while True:
        record = await over.get()
        write(_line(record) + "\n")


def _line(record: RequestRecord) -> str:
    parts = [f"#{record.number} {record.route}"]
    if record.status is not None:
        parts.append(str(record.status))
    parts.append(record.state + (f" in {record.phase}" if record.cancelled else ""))
    if record.reason:
        parts.append(f"({record.reason})")
    if record.model:
        parts.append(record.model)
    if record.tokens:
        parts.append(f"{record.tokens} tokens")
    return clean(" ".join(" · ".join(parts).split()))
