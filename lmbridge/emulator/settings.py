"""What the emulator is and how it behaves: one frozen dataclass.

Every field of `Settings` carries `metadata["evidence"]` and `metadata["source"]`, so that a table of
"how do we know this?" can be generated from the code. The marks:

- ``documented``: LM Studio's published documentation or the schemas of its own client.
- ``observed``: seen by users of a real server, in bug reports or in clients that run against it.
- ``proved``: seen by running LM Studio's own clients.
- ``assumed``: nobody outside has settled it; the likelier side is the default and the field is the switch.
- ``harness``: no behaviour of LM Studio at all, but a control of the emulator itself.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Evidence = Literal["documented", "observed", "proved", "assumed", "harness"]

TOKEN_PATTERN = re.compile(r"sk-lm-(?P<identifier>[A-Za-z0-9]{8}):(?P<passkey>[A-Za-z0-9]{20})\Z")
"""The form of an API token (lmstudio-js, lmstudioAPIToken.ts)."""


def switch(default: T, evidence: Evidence, source: str = "", *, minimum: float | None = None) -> T:
    """Return a dataclass field that says how its behaviour is known, and its least value."""
    known = {"evidence": evidence, "source": source, "minimum": minimum}
    result: T = field(default=default, metadata=known)
    return result


def check_minimum(name: str, value: Any, minimum: float | None) -> None:
    """Refuse a number below its minimum, and one that is none.

    Raises:
        ValueError: the message begins with the name.
    """
    if minimum is not None and value is not None and not minimum <= value < math.inf:
        raise ValueError(f"{name} must be at least {minimum:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long the emulator's work takes, in seconds of its clock. Zero: at once, but never blocking."""

    token: float = 0.015
    """One generated token."""
    load_step: float = 0.04
    """One step of loading a model (a catalogue entry says how many there are)."""
    prompt_step: float = 0.03
    """One step of reading the prompt (there are `Settings.prompt_steps`)."""
    download_step: float = 0.1
    """One step of a download (there are `Settings.download_steps`)."""
    tool: float = 0.05
    """One run of a tool on the server."""

    def __post_init__(self) -> None:
        for part in dataclasses.fields(self):
            check_minimum(f"pace.{part.name}", getattr(self, part.name), 0)

    @classmethod
    def instant(cls) -> Pace:
        """Return the pace for tests: nothing takes time."""
        return cls(token=0.0, load_step=0.0, prompt_step=0.0, download_step=0.0, tool=0.0)


@dataclass(frozen=True, slots=True)
class ApiToken:
    """An API token and what it permits.

    Args:
        value: `sk-lm-XXXXXXXX:YYYYYYYYYYYYYYYYYYYY`.
        mcp: whether the bearer may call MCP servers.

    Raises:
        ValueError: the value has not the form of a token; it is not repeated in the message.
    """

    value: str = field(repr=False)
    mcp: bool = True

    def __post_init__(self) -> None:
        if not TOKEN_PATTERN.match(self.value):
            raise ValueError("an API token has the form sk-lm-XXXXXXXX:YYYYYYYYYYYYYYYYYYYY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The emulator's controls and switches. The defaults are a plain LM Studio 0.4.x."""

    # The harness
    pace: Pace = field(default_factory=Pace, metadata={"evidence": "harness", "source": ""})
    """How long things take."""
    loaded: tuple[str, ...] = switch((), "harness")
    """Model keys that are loaded, without TTL, when the server starts; a repeated key gives `key:2`."""
    prompt_steps: int = switch(4, "harness", minimum=1)
    """Into how many steps reading a prompt is divided."""
    download_steps: int = switch(10, "harness", minimum=1)
    """Into how many steps a download is divided."""
    download_ends: Literal["completed", "failed", "paused"] = switch(
        "completed", "documented", "LM Studio docs, rest/download-status"
    )
    """How downloads end: failed and paused ones stop half-way; asking again for a paused one resumes it."""
    journal_limit: int = switch(5000, "harness", minimum=1)
    """How many requests are remembered."""
    journal_bytes: int = switch(256 * 1024 * 1024, "harness", minimum=1)
    """How many bytes of request bodies are remembered; older requests are forgotten first."""
    memory_bytes: int | None = switch(None, "harness", minimum=1)
    """Memory of the emulated machine; the guardrails refuse a load that does not fit beside the others."""
    admin: bool = switch(True, "harness")
    """Serve `/_emulator`, where programs on this machine can turn the switches; it cannot turn this one."""

    # The application's own settings
    version: str = switch("0.4.25", "observed", "lmstudio-bug-tracker threads of autumn 2026")
    """The version that the SDK's `system` namespace reports."""
    old_server: bool = switch(
        False, "documented", "LM Studio docs, rest/index: REST v1 needs LM Studio 0.4.0"
    )
    """Behave as before 0.4.0: no `/api/v1`, no `/v1/messages`; they are answered as unknown routes are."""
    tokens: tuple[str | ApiToken, ...] = field(
        default=(),
        repr=False,
        metadata={"evidence": "documented", "source": "LM Studio docs, core/authentication"},
    )
    """Require one of these API tokens; empty: authentication is off."""
    jit: bool = switch(True, "documented", "LM Studio docs, core/headless, core/ttl-and-auto-evict")
    """Load a downloaded model when a request names it; also: `/v1/models` lists all of them."""
    jit_ttl_s: float | None = switch(
        3600.0, "documented", "LM Studio docs, core/ttl-and-auto-evict", minimum=0
    )
    """Idle time after which a model that was loaded on request is unloaded, in seconds; none: it stays."""
    auto_evict: bool = switch(True, "documented", "LM Studio docs, core/ttl-and-auto-evict")
    """Keep at most one model that was loaded on request; it is unloaded even while it generates."""
    context_length: int = switch(
        4096, "observed", "default of the application; its schema says 2048", minimum=1
    )
    """Context in tokens of an instance whose load names none."""
    parallel: int = switch(4, "documented", "LM Studio docs, app/advanced/parallel-requests", minimum=1)
    """Predictions that one instance runs at once; more are queued."""
    queue_limit: int | None = switch(
        None, "assumed", "lmstudio-bug-tracker#1653: no queue was seen", minimum=0
    )
    """Predictions that may wait for a slot of an instance; more are refused with 429."""
    separate_reasoning: Literal[
        "auto", "reasoning_content", "reasoning", "inline", "leaked", "leaked_inline"
    ] = switch(
        "auto", "observed", "LM Studio changelog 0.3.23; lmstudio-bug-tracker#1602, #2371; any-llm#1167"
    )
    """Where `/v1` and `/api/v0` put reasoning. `auto`: `reasoning` for gpt-oss, else `reasoning_content`.

    `inline`: `<think>` tags inside the content. `leaked`: apart, but the content begins with the internal
    end marker. `leaked_inline`: reasoning, marker and answer all in the content. The last three show on the
    other routes too: the SDK's fragments are not classified (`inline`) or carry the marker as their end tag.
    """
    mcp_servers_allowed: bool = switch(
        True, "documented", "LM Studio docs, core/mcp: off by default; on here for convenience"
    )
    """Whether servers from mcp.json may be called over the API."""
    ephemeral_mcp_allowed: bool = switch(
        True, "documented", "LM Studio docs, core/mcp: off by default; on here for convenience"
    )
    """Whether a request may bring its own MCP servers."""
    ephemeral_mcp_public_only: bool = switch(True, "observed", "lmstudio-bug-tracker#2161")
    """Refuse an ephemeral MCP server whose address is local."""
    cors: bool = switch(False, "documented", "LM Studio docs, lms server start --cors")
    """Let pages of other origins call the HTTP routes: preflights are answered, answers carry the headers."""
    greeting: Literal["ok", "hang", "text", "html"] = switch("ok", "observed", "lmstudio-python#66, #157")
    """How `/lmstudio-greeting` answers; another program on the port may hang or talk HTML."""
    unknown_route: Literal["string", "object", "not_found"] = switch(
        "string", "assumed", "lmstudio-bug-tracker#1680, #1879 show the status 200 and the text, not the body"
    )
    """What an unknown route answers: 200 with a string, or with an object, as `error`; or a plain 404."""

    # Models and loading
    unknown_model_type: bool = switch(False, "observed", "SDK 1.5.0 against a listing with `imageGen`")
    """Add an entry of a type that today's clients do not know."""
    duplicate_load: bool = switch(True, "assumed", "consistent with lmstudio-bug-tracker#168, #1582")
    """Loading a loaded key again makes a second instance `key:2`; else the first is returned."""
    variant_ids: bool = switch(True, "observed", "openclaw#95401: false errors")
    """Accept a variant (`key@q4_k_m`) where a model key is expected."""
    wrong_model_served: bool = switch(False, "observed", "lmstudio-bug-tracker#619, 0.3.14")
    """With exactly one model loaded, answer a request for an unknown model with it."""
    load_failure: bool = switch(False, "observed", "agent-zero#215")
    """Every load fails for want of memory."""
    evict_loading: bool = switch(True, "observed", "lmstudio-bug-tracker#671, #1796")
    """Auto-evict also stops a load that another request waits for."""
    ttl_ignored: bool = switch(False, "observed", "lmstudio-bug-tracker#1782")
    """The TTL that a request brings has no effect."""
    context_mismatch: Literal["ignored", "loaded_again", "refused"] = switch(
        "ignored", "assumed", "LM Studio docs, rest/chat does not say"
    )
    """What `context_length` of `/api/v1/chat` does if the model is loaded with another one."""
    load_takes_parallel: bool = switch(
        False, "assumed", "refused on 0.4.16, lmstudio-bug-tracker#2024; since then?"
    )
    """`/api/v1/models/load` takes `parallel`; else it is an unknown key."""
    load_takes_ttl: bool = switch(False, "assumed", "openclaw#77038: tried, never merged")
    """`/api/v1/models/load` takes `ttl` in seconds; else it is an unknown key."""

    # Generation
    prompt_progress: bool = switch(True, "documented", "LM Studio docs, rest/streaming-events")
    """Report progress while the prompt is read."""
    finish_prompt_on_cancel: bool = switch(True, "observed", "lmstudio-bug-tracker#944, #1143")
    """A cancel during the prompt takes effect only when the prompt has been read."""
    stop_without_stream: bool = switch(False, "observed", "open-historia#338")
    """Notice that the client of a request without `stream` is gone."""
    socket_close_aborts: bool = switch(True, "assumed", "file handles are client-scoped")
    """Closing a websocket stops its predictions and loads."""
    load_survives_disconnect: bool = switch(True, "assumed", "loads outlive their SDK task")
    """A load that a request began is finished after its client is gone."""
    overflow: Literal["error", "in_stream", "silent"] = switch(
        "error", "observed", "lmstudio-bug-tracker#2322, #2339"
    )
    """A prompt beyond the context: status 400; an error inside a 200 stream; an empty stream."""
    overflow_text: Literal["0.4", "0.3", "mlx", "llama-server"] = switch("0.4", "observed", "openclaude#353")
    """In whose words a context overflow is reported."""
    json_in_reasoning: bool = switch(False, "observed", "lmstudio-bug-tracker#1698")
    """A thinking model puts structured output into the reasoning and leaves the content empty."""
    zero_usage: bool = switch(False, "observed", "lmstudio-bug-tracker#1602")
    """Report a usage of zeros on the compatible routes."""
    crash_after_tokens: int | None = switch(None, "observed", "lmstudio-bug-tracker#1755, #2255", minimum=0)
    """The engine crashes after so many tokens; the model is unloaded."""
    drop_after_tokens: int | None = switch(
        None, "observed", "SDK: client unexpectedly disconnected", minimum=0
    )
    """The server resets the connection after so many tokens."""
    crash_in_parallel: bool = switch(False, "observed", "lmstudio-bug-tracker#1628, #2255")
    """The engine crashes as soon as it generates two answers at once."""
    vision_stalls: bool = switch(False, "observed", "lmstudio-bug-tracker#1487, #1654")
    """An instance answers only one request with pictures at a time; others wait within their slots."""
    parallel_embeddings_hang: bool = switch(False, "observed", "lmstudio-bug-tracker#7")
    """An embedding that begins while another one runs never ends."""
    thinking_stuck: bool = switch(False, "observed", "lmstudio-bug-tracker#988, #1573, #1933, #2284")
    """A model that can think does so whatever the request says."""
    unload_while_running: Literal["stop_reason", "error"] = switch(
        "stop_reason", "assumed", "lmstudio-js has the stop reason modelUnloaded and an error code for it"
    )
    """How the SDK learns that a model went away under its prediction; HTTP has an error in any case."""
    blind_model: Literal["refuses", "engine", "ignores"] = switch(
        "refuses", "assumed", "no text of the error was published"
    )
    """What a model without eyes does with a picture: refuse it, in the engine's own words, or not notice."""
    leaked_start_marker: bool = switch(
        False, "assumed", "only the end marker was reported: lmstudio-bug-tracker#2371"
    )
    """Leaked reasoning also begins with an internal marker."""

    # REST v1
    chat_start_first: bool = switch(
        True, "assumed", "order of the list in LM Studio docs, rest/streaming-events"
    )
    """`chat.start` comes before `model_load.*`."""
    prompt_after_tool: bool = switch(True, "assumed", "LM Studio docs, rest/streaming-events does not say")
    """`prompt_processing.*` comes again after a tool call."""
    temperature_limit: float | None = switch(
        1.0,
        "assumed",
        "LM Studio docs, rest/chat has the limit; whether it is enforced is not known",
        minimum=0,
    )
    """Largest `temperature` that `/api/v1/chat` takes; none: any."""
    strict_keys: bool = switch(True, "observed", "Caption-Creator#4, lmstudio-bug-tracker#2024")
    """`/api/v1` refuses keys that it does not know."""
    chat_end_after_error: bool = switch(True, "documented", "LM Studio docs, rest/streaming-events")
    """After an `error` event the stream still ends with `chat.end`."""
    tool_call_name_event: bool = switch(
        True, "observed", "lmstudio-bug-tracker#1880, 0.4.12; its fields are assumed"
    )
    """A `tool_call.name` event, which is in no documentation, follows each `tool_call.start`."""
    unknown_event: bool = switch(False, "assumed", "a newer server may have more events")
    """Send an event of an unknown type within each stream, as a newer server would."""
    native_string_errors: bool = switch(False, "assumed", "bodies of template and engine errors: unpublished")
    """All errors of `/api/v1` are strings, not objects."""
    invalid_json_status: Literal[400, 500] = switch(400, "assumed", "only the server's log was published")
    """Status of the answer to a body that is no JSON."""
    unknown_model_status: Literal[400, 404] | None = switch(
        None, "assumed", "both occur on the compatible routes; /api/v1 was not published"
    )
    """Status of the answer to an unknown model; none: 400, or 404 with JIT off."""
    unknown_model_text: Literal["listed", "plain"] = switch("listed", "assumed", "as the compatible routes")
    """Whether `/api/v1` names the model or instance that is unknown, and lists those that are known."""
    unknown_instance_status: Literal[404, 400] = switch(
        404, "assumed", "LM Studio docs, rest/unload does not say"
    )
    """Status of the answer to the unload of an unknown instance."""
    load_failure_status: Literal[404, 400, 500] = switch(
        404, "assumed", "agent-zero#215 for the compatible routes"
    )
    """Status of a failed load on `/api/v1`."""
    failure_ends_after_start: bool = switch(False, "observed", "third-party clients")
    """A failing stream ends after a bare `chat.start`; only `stream: false` tells why."""
    open_after_end: bool = switch(False, "observed", "third-party clients")
    """The connection stays open after `chat.end`."""
    repeated_system_prompt_fails: bool = switch(False, "observed", "lmstudio-bug-tracker#2219, Ministral")
    """`system_prompt` together with `previous_response_id` is a 500."""

    # Compatible routes
    string_errors: bool = switch(False, "observed", "both forms occur")
    """All errors of the compatible routes are strings, not objects."""
    compat_strict_keys: bool = switch(
        False, "observed", "lmstudio-bug-tracker#632, #1573: ignored without a word"
    )
    """`/v1/chat/completions` refuses keys that it does not know."""
    stream_error: Literal["message", "full", "string"] = switch(
        "message", "assumed", "lmstudio-bug-tracker#2322 shows that there is one, not its JSON"
    )
    """What `error` is inside a stream: an object with only the message, a full object, or a string."""
    usage_chunk: Literal["own", "final"] = switch("own", "assumed", "as OpenAI's API")
    """Whether the usage of a stream comes in a chunk of its own, or with the finish reason."""
    error_event_name: bool = switch(True, "observed", "LM Studio changelog 0.3.18, lmstudio-bug-tracker#2322")
    """An error inside a stream is preceded by `event: error`."""
    webp_refused: bool = switch(True, "observed", "lmstudio-bug-tracker#1027, #1752")
    """WebP is refused as if it were no base64."""
    pixel_limit: int | None = switch(5120 * 5120, "observed", "lmstudio-bug-tracker#2003, Windows", minimum=1)
    """Largest width times height of a picture, in pixels."""

    # /v1/responses
    responses_structured_output: bool = switch(
        False, "observed", "lmstudio-bug-tracker#1396, #2403: ignored on 0.4.23"
    )
    """`/v1/responses` honours `text.format`; the answer is plain text where it does not."""
    responses_images: bool = switch(
        True, "observed", "lmstudio-bug-tracker#1106, #2200: refused by older builds"
    )
    """`/v1/responses` takes `input_image`; else it is an `invalid_union`."""
    responses_error_event: bool = switch(False, "assumed", "both forms exist in OpenAI's Responses API")
    """A stream of `/v1/responses` that fails ends with an `error` event instead of `response.failed`."""

    # /v1/messages
    messages_system_role: bool = switch(True, "observed", "lmstudio-bug-tracker#2204: since 0.4.15")
    """`/v1/messages` takes messages of the role `system`; older servers and llmster refuse them."""
    messages_max_tokens_required: bool = switch(True, "assumed", "as Anthropic's API")
    """`/v1/messages` refuses a request without `max_tokens`."""

    # WebSockets
    pong: bool = switch(True, "documented", "RFC 6455")
    """Answer pings; the SDK gives a connection up after 20 s without."""
    unknown_packet: bool = switch(False, "observed", "lmstudio-python#25")
    """Send a packet of an unknown type within each prediction, as a newer server would."""
    unknown_stop_reason: bool = switch(False, "observed", "lmstudio-bug-tracker#733")
    """End predictions with a stop reason that today's clients do not know."""
    unknown_reasoning_type: bool = switch(False, "proved", "SDK 1.5.0 fails on unknown values of an enum")
    """Fragments of the answer have a reasoning type that today's clients do not know."""
    guest_prefix_needed: bool = switch(False, "assumed", "SDK 1.5.0 sends a bare uuid and must be let in")
    """While authentication is off, refuse clients that do not call themselves `guest:`."""
    socket_refusal: Literal["short", "http"] = switch("short", "assumed", "no text was published")
    """In whose words a websocket is refused: its own, or those of the HTTP routes."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            check_minimum(item.name, getattr(self, item.name), item.metadata.get("minimum"))

    @classmethod
    def instant(cls, **switches: Any) -> Settings:
        """Return settings for tests: no step takes time."""
        return cls(**{"pace": Pace.instant(), **switches})

    def replace(self, **switches: Any) -> Settings:
        """Return a copy with some fields changed.

        Raises:
            TypeError: there is no field of that name.
        """
        return dataclasses.replace(self, **switches)

    def api_tokens(self) -> tuple[ApiToken, ...]:
        """Return the accepted tokens with their permissions.

        Raises:
            ValueError: one has not the form of a token.
        """
        return tuple(token if isinstance(token, ApiToken) else ApiToken(token) for token in self.tokens)
