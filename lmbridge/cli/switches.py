"""The emulator's switches as words of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lmbridge

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["read_switches", "switch_rows"]

#: They have options of their own: a token does not belong into a list of processes twice.
_OPTIONS = {"pace": "--fast, or --set pace.token=SECONDS", "tokens": "--token", "loaded": "--load"}


def read_switches(pairs: Sequence[str], *, fast: bool = False) -> dict[str, Any]:
    """Read ``SWITCH=VALUE`` pairs.

    Args:
        pairs: as they were typed.
        fast: what is not said of the pace takes no time.

    Returns:
        The changed switches by name, in their own types.

    Raises:
        InvalidRequest: there is no such switch, or the value is not of its type.
    """
    from lmbridge.emulator.settings import Settings  # noqa: PLC0415 - help needs no emulator
    from lmbridge.emulator.switches import SwitchError, changed  # noqa: PLC0415 - as above

    values = dict(_pair(pair) for pair in pairs)
    plain = Settings.instant() if fast else Settings()
    try:
        made = changed(plain, values, strict=False)
    except SwitchError as exc:
        raise lmbridge.InvalidRequest(str(exc), hint=exc.hint or "--switches lists them") from exc
    return {name: getattr(made, name) for name in dict.fromkeys(name.partition(".")[0] for name in values)}


def _pair(pair: str) -> tuple[str, str]:
    name, equals, text = pair.partition("=")
    name = name.strip().replace("-", "_")
    if name in _OPTIONS:
        raise lmbridge.InvalidRequest(f"{name} has an option of its own", hint=f"use {_OPTIONS[name]}")
    if not equals and name.isidentifier():
        raise lmbridge.InvalidRequest(f"--set needs SWITCH=VALUE, not {pair!r}")
    return name, text.strip()


def switch_rows() -> list[tuple[str, ...]]:
    """Return name, values, default, evidence and meaning of every switch."""
    from lmbridge.emulator.switches import switches  # noqa: PLC0415 - as above

    rows: list[tuple[str, ...]] = []
    for switch in switches():
        meaning = switch.meaning.replace("`", "")
        if switch.name in _OPTIONS:
            meaning = f"{meaning} Set by {_OPTIONS[switch.name]}."
        rows.append((switch.name, switch.kind, _default(switch.default), switch.evidence, meaning))
    return rows


def _default(value: Any) -> str:
    from lmbridge.emulator.settings import Pace  # noqa: PLC0415 - as above

    if isinstance(value, Pace):
        return "visible"
    if value is None or value == ():
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
