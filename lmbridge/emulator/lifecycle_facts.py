"""How the behaviour of the engine and of loaded models is known, where no single function has it."""

from __future__ import annotations

from lmbridge.emulator.evidence import WITNESSES, Fact

_TTL = "LM Studio docs, core/ttl-and-auto-evict"
_UNSAID = "not published"
_BT = "lmstudio-bug-tracker#"

FACTS: tuple[Fact, ...] = (
    Fact("A request that names a downloaded model loads it.", "documented", _TTL, "loading on request"),
    Fact("The load is finished for all requests that wait for it.", "assumed", _UNSAID, "loading on request"),
    Fact(
        "An idle model that was loaded on request is unloaded after its TTL; every use begins the time anew.",
        "documented",
        _TTL,
        "TTL",
    ),
    Fact("A model at work does not expire.", "assumed", _UNSAID, "TTL"),
    Fact("The `ttl` of a request counts for the load that it causes, in seconds.", "documented", _TTL, "TTL"),
    Fact("A load by the SDK without a TTL stays.", "proved", WITNESSES, "TTL"),
    Fact(
        "At most one model stays that was loaded on request; those loaded by hand are left alone.",
        "documented",
        _TTL,
        "auto-evict",
    ),
    Fact("It also ends predictions and loads of others.", "observed", f"{_BT}644, #671, #1796", "auto-evict"),
    Fact("The second instance of a key is `key:2`.", "observed", f"{_BT}168, #634, #1582", "instances"),
    Fact("A variant of a model means the model.", "observed", "openclaw#95401", "instances"),
    Fact(
        "An instance runs four predictions at once; more wait in the order in which they came.",
        "documented",
        "LM Studio docs, app/advanced/parallel-requests",
        "parallel requests",
    ),
    Fact(
        "A prompt that fills the context is refused before anything is said.",
        "observed",
        f"openclaude#353, {_BT}2322, #2339",
        "context",
    ),
    Fact(
        "An answer ends at the context's limit if the client wants that; else old messages give way.",
        "documented",
        "lmstudio-js, contextOverflowPolicy",
        "context",
    ),
    Fact(
        "Closing the connection of a stream stops the prediction, but only when the prompt has been read.",
        "observed",
        f"{_BT}944, #1143",
        "cancelling",
    ),
    Fact(
        "Without a stream the loss of the client is not noticed, and the work is done to its end.",
        "observed",
        "open-historia#338",
        "cancelling",
    ),
    Fact(
        "An unload ends the predictions of the instance: with the stop reason `modelUnloaded` for the SDK, "
        "with an error for the others.",
        "documented",
        "lmstudio-js, LLMPredictionStopReason and generic.specificModelUnloaded",
        "unloading",
    ),
    Fact("A crash unloads the model; the next request loads it again.", "assumed", _UNSAID, "crash"),
    Fact("A crash ends all predictions of the instance.", "observed", f"{_BT}1628, #2255", "crash"),
    Fact(
        "The guardrails refuse a load for which there is no memory.",
        "observed",
        "agent-zero#215",
        "guardrails",
    ),
    Fact(
        "WebP and other things than base64 are refused.", "observed", f"{_BT}1027, #1120, #1752", "pictures"
    ),
    Fact("A picture may have 5120 by 5120 pixels.", "observed", f"{_BT}2003", "pictures"),
    Fact("A picture takes 256 tokens.", "harness", "", "pictures"),
    Fact("Uploads belong to a client and go with its last websocket.", "proved", WITNESSES, "pictures"),
    Fact(
        "A JSON schema of the request is honoured.",
        "documented",
        "LM Studio docs, structured-output",
        "answers",
    ),
    Fact("Answers are made up, deterministic, and tell what was sent.", "harness", "", "answers"),
    Fact(
        "A token of the form `sk-lm-` and 8, colon, 20 characters is demanded if authentication is on.",
        "documented",
        "LM Studio docs, core/authentication; lmstudio-js, lmstudioAPIToken",
        "authentication",
    ),
    Fact(
        "`/v1/messages` also takes `x-api-key`.",
        "documented",
        "LM Studio docs, anthropic-compat",
        "authentication",
    ),
    Fact(
        "Any key will do while authentication is off.",
        "documented",
        "LM Studio docs, core/authentication",
        "authentication",
    ),
)
"""The facts by subject."""
