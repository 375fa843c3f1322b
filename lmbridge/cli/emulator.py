"""``lmbridge emulator``."""

import asyncio
from ipaddress import ip_address
from typing import Annotated

import typer

import lmbridge
from lmbridge.cli.exits import quit_on_errors, tell_note
from lmbridge.cli.logs import set_up_logging
from lmbridge.cli.serving import USUAL_PORT, make_settings, serve
from lmbridge.cli.switches import read_switches, switch_rows
from lmbridge.cli.tables import show_table

__all__ = ["emulator"]

_Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
_Tokens = Annotated[
    list[str] | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="Demand this API token: sk-lm-, 8 letters, a colon, 20 letters. May be given more than once.",
    ),
]
_Loaded = Annotated[
    list[str] | None,
    typer.Option(
        "--load",
        metavar="MODEL",
        help="A model that is loaded from the start. May be given more than once.",
    ),
]
_Switches = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SWITCH=VALUE",
        help="Change a behaviour; --switches lists them. May be given more than once.",
    ),
]
_Remote = Annotated[
    bool, typer.Option("--allow-remote", help="Permit an address that other machines can reach.")
]


def emulator(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: _Port = USUAL_PORT,
    token: _Tokens = None,
    loaded: _Loaded = None,
    fast: Annotated[bool, typer.Option("--fast", help="Let nothing take time.")] = False,
    switch: _Switches = None,
    switches: Annotated[bool, typer.Option("--switches", help="List the switches and exit.")] = False,
    allow_remote: _Remote = False,
) -> None:
    """Run an emulator of LM Studio 0.4 until Ctrl-C, which is its regular end (exit code 0).

    It needs no GPU: its answers are made up, deterministic, and tell what was asked. One line is written for
    each request when it is over; secrets and texts are not in it.

    For example:

    lmbridge emulator

    lmbridge emulator --port 0 --load qwen3-vl-4b --set parallel=1
    """
    if switches:
        show_table(("SWITCH", "VALUES", "DEFAULT", "EVIDENCE", "MEANING"), switch_rows())
        return
    with quit_on_errors():
        _check_host(host, allowed=allow_remote)
        set_up_logging(lmbridge.Settings.load().log)
        changes = read_switches(switch or [], fast=fast)
        settings = make_settings(changes, tokens=token or [], loaded=loaded or [], fast=fast)
        try:
            asyncio.run(serve(host, port, settings))
        except KeyboardInterrupt:
            tell_note("stopped")


def _check_host(host: str, *, allowed: bool) -> None:
    try:
        local = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        local = False
    if not (local or allowed):
        raise lmbridge.ConfigurationError(
            f"{host} can be reached from other machines", hint="add --allow-remote if that is meant"
        )
