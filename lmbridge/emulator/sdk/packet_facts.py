"""How the packets of the SDK's channels are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmbridge.emulator.evidence import WITNESSES, Fact

if TYPE_CHECKING:
    from lmbridge.emulator.settings import Evidence


def _packet(name: str, says: str, evidence: Evidence = "proved", source: str = WITNESSES) -> Fact:
    return Fact(says, evidence, source, name)


PACKETS: tuple[Fact, ...] = (
    _packet("alreadyLoaded", "`getOrLoad`: shows the loaded instance."),
    _packet(
        "unloadingOtherJITModel",
        "`getOrLoad`: shows an instance that is unloaded for this one.",
        "documented",
        "lmstudio-js, getOrLoad channel",
    ),
    _packet("startLoading", "`getOrLoad`: a load has begun."),
    _packet("loadProgress", "`getOrLoad`: part of the model is loaded, 0 to 1."),
    _packet("loadSuccess", "`getOrLoad`: shows the new instance."),
    _packet("resolved", "`loadModel`: shows the model that is meant."),
    _packet("progress", "`loadModel`: part of the model is loaded, 0 to 1."),
    _packet("success", "Ends `loadModel`, `predict` and `downloadModel` with what came of them."),
    _packet("promptProcessingProgress", "`predict`: part of the prompt is read, with counts of tokens."),
    _packet("fragment", "`predict`: a token with its reasoning type."),
    _packet("toolCallGenerationStart", "`predict`: the model begins to call a tool."),
    _packet("toolCallGenerationNameReceived", "`predict`: the name of the tool."),
    _packet("toolCallGenerationArgumentFragmentGenerated", "`predict`: a token of the arguments."),
    _packet("toolCallGenerationEnd", "`predict`: the whole call, whether or not there is such a tool."),
    _packet("toolCallGenerationFailed", "`predict`: a call that cannot be read, with the model's own words."),
    _packet(
        "downloadProgress",
        "`downloadModel`: bytes and speed.",
        "documented",
        "lmstudio-js, RepositoryPort",
    ),
    _packet(
        "startFinalizing",
        "`downloadModel`: all bytes are there.",
        "documented",
        "lmstudio-js, RepositoryPort",
    ),
    _packet("quantumProgress", "Off by default: a packet that no client knows.", "harness", ""),
)
"""Each kind of packet that a channel may send."""
