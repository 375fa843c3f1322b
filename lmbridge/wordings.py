"""What servers say when they fail, and which class of :mod:`lmbridge.errors` it means.

The status decides first where it is clear (redirect, key, payment, rate), then the error's code or type, then
the wording, then the status again. Wordings are searched as plain substrings, so that no text takes long.
Sources: LM Studio and OpenRouter as documented and observed, llama.cpp, Ollama, vLLM, OpenAI and Anthropic as
quoted in their repositories and issue threads.
"""

from collections.abc import Iterable

from lmbridge.errors import (
    AuthenticationFailed,
    ContextOverflow,
    ImageRejected,
    LMBridgeError,
    ModelLoadFailed,
    RateLimited,
    ServerError,
    UnsupportedFeature,
)
from lmbridge.verdicts import Build, Report, make, model_not_found, unsupported

__all__ = ["classify"]

_TEXT_LIMIT = 8192  # characters of a message that are looked at

_REDIRECT = make(
    ServerError,
    "the server redirects; redirects are not followed with a key: set the address that it leads to",
)
_KEY = make(AuthenticationFailed)
_PERMISSION = make(
    AuthenticationFailed, "the key lacks this permission: grant it on the server, or set another key"
)
_FLAGGED = make(ServerError, "the server's moderation refuses this text or picture")
_PAYMENT = make(ServerError, "the account has no credit left: top it up, or choose another connection")
_QUOTA = make(RateLimited, "the account's quota is used up: see its plan and billing", retryable=False)
_RATE = make(RateLimited, "wait, and send fewer requests at a time")
_LARGE = make(ServerError, "the request is too large: send fewer or smaller pictures, or less text")
_LOADING = make(ServerError, "the server is still loading its model: try again in a moment", retryable=True)
_BUSY = make(ServerError, "the server is overloaded or restarting: try again in a moment", retryable=True)
_CRASH = make(
    ServerError,
    "the model's engine stopped; the server's log says why (often too little memory). It may work again now",
    retryable=True,
)
_UNLOADED = make(
    ServerError,
    "another request or program had the model unloaded: LM Studio keeps one of those that requests load; "
    "load it yourself and it stays",
    retryable=True,
)
_MEMORY = make(ServerError, "the server is out of memory: free some, or choose a smaller model or context")
_ROUTE = make(
    ServerError, "the server has no such route: is this its base address, and the right kind of server?"
)
_TOOLS = make(
    ServerError, "the server cannot reach the tools of an integration: see its mcp.json and its log"
)
_CONTEXT, _IMAGE, _LOAD = make(ContextOverflow), make(ImageRejected), make(ModelLoadFailed)
_NO_VISION = make(ImageRejected, "choose a model that can see, or send no picture")
_IMAGE_FORM = make(ImageRejected, "send a PNG or JPEG picture, not WebP, as a data URL")

_STATUS: dict[int, Build] = {401: _KEY, 402: _PAYMENT, 407: _KEY, 413: _LARGE}
_RETRYABLE = {408, 425, 502, 503, 504}

_CODES: dict[str, Build] = {
    "context_length_exceeded": _CONTEXT,  # OpenAI
    "exceed_context_size_error": _CONTEXT,  # llama.cpp
    "model_not_found": model_not_found,  # LM Studio, OpenAI
    "generic.pathnotfound": model_not_found,  # LM Studio's SDK protocol
    "generic.nomodelmatchingquery": model_not_found,
    "generic.identifiernotfound": model_not_found,
    "generic.specificmodelunloaded": _UNLOADED,
    "generic.missingruntimeextension": make(
        ModelLoadFailed, "install the runtime that the model needs on the server"
    ),
    "generic.enginedoesnotsupportfeature": unsupported,
    "generic.domainmismatch": make(
        UnsupportedFeature, "the model is of another kind, such as an embedding model"
    ),
    "invalid_api_key": _KEY,
    "authentication_error": _KEY,
    "permission_denied": _PERMISSION,
    "permission_error": _PERMISSION,
    "insufficient_quota": _QUOTA,
    "rate_limit_exceeded": _RATE,
    "rate_limit_error": _RATE,
    "job_not_found": make(ServerError, "the server knows no such download"),  # LM Studio
    "mcp_connection_error": _TOOLS,
    "plugin_connection_error": _TOOLS,
    "overloaded_error": _BUSY,  # Anthropic
    "unavailable_error": _BUSY,  # llama.cpp
    "unrecognized_keys": unsupported,  # LM Studio
    "unsupported_parameter": unsupported,  # OpenAI
    "unsupported_value": unsupported,
    "not_supported_error": unsupported,  # llama.cpp
    "not_implemented": unsupported,
    "invalid_image": _IMAGE,
    "invalid_image_format": _IMAGE_FORM,
    "image_parse_error": _IMAGE_FORM,
}


# These are looked for before code and type: servers give them with codes of another meaning.
_FIRST_WORDS: list[tuple[Build, tuple[str, ...]]] = [
    (
        _LOAD,
        (
            "failed to load model",  # LM Studio, with status 404 (observed, agent-zero#215)
            "insufficient system resources",  # LM Studio
            "requires more system memory",  # Ollama
            "unable to load model",  # Ollama
            "error loading model",  # Ollama, llama.cpp
            "timed out waiting for llama runner",  # Ollama
        ),
    ),
    (_LOADING, ("loading model", "model is loading", "currently loading")),  # llama.cpp, TGI
]

_WORDS: list[tuple[Build, tuple[str, ...]]] = [
    (
        _CONTEXT,
        (
            "exceeds the available context",  # llama.cpp, LM Studio
            "exceed_context_size",
            "context size has been exceeded",  # LM Studio (MLX)
            "when context the overflows",  # LM Studio 0.3
            "greater than the context length",  # LM Studio 0.4
            "with a larger context length",
            "exceeds the context length",  # Ollama
            "maximum context length",  # vLLM, OpenAI, OpenRouter
            "maximum model length",  # vLLM
            "max_model_len",
            "exceeds the context window",
            "prompt is too long",  # Anthropic
            "prompt too long",
            "input is too long",
            "context_length_exceeded",
        ),
    ),
    (_IMAGE_FORM, ("must be a base64 encoded image", "unsupported image", "invalid image", "invalid base64")),
    (
        _NO_VISION,
        (
            "image input is not supported",  # llama.cpp
            "support image input",  # OpenRouter: No endpoints found that support image input
            "not a multimodal model",  # vLLM
            "does not support image",
            "does not support vision",
            "do not support image",
            "does not support multimodal",
            "image(s) may be provided",  # vLLM: At most 0 image(s) may be provided
            "missing data required for image input",  # Ollama
            "unknown variant `image_url`",
        ),
    ),
    (
        _IMAGE,
        (
            "failed to load image",  # llama.cpp
            "failed to decode image",
            "failed to process image",
            "could not process image",  # Anthropic
            "cannot identify image",  # vLLM
            "unable to decode image",
            "image is too large",
            "image exceeds",
        ),
    ),
    (
        unsupported,
        (
            "does not expose reasoning configuration",  # LM Studio
            "reasoning setting",
            "'response_format.type' must be",
            "invalid tool_choice type",
            "unrecognized key",
            "does not support thinking",  # Ollama
            "does not support tools",
            "does not support chat",
            "does not support generate",
            "does not support embeddings",
            "does not support completions",  # llama.cpp
            "unsupported parameter",  # OpenAI
            "unsupported value",
            "is not supported with this model",
            "not supported by model",
            "not supported by this model",
            "param requires --jinja",  # llama.cpp
            "support tool use",  # OpenRouter
            "support the provided 'tool_choice' value",
        ),
    ),
    (_QUOTA, ("exceeded your current quota",)),
    (_RATE, ("rate limit", "too many requests", "maximum pending requests exceeded")),  # the last is Ollama's
    (
        _KEY,
        (
            "api token is required",  # LM Studio
            "invalid api key",
            "incorrect api key",
            "api key not valid",  # Google
            "no auth credentials",  # OpenRouter
            "authentication failed",
            "authenticationerror",
            "unauthorized",
        ),
    ),
    (_PERMISSION, ("permission denied",)),
    (_UNLOADED, ("model was unloaded", "model unloaded", "has been unloaded")),  # LM Studio
    (
        _CRASH,
        (
            "model has crashed",  # LM Studio
            "llama runner process",  # Ollama: has terminated, no longer running
            "enginedeaderror",  # vLLM
            "engine core",
        ),
    ),
    (_MEMORY, ("out of memory", "outofmemory")),
    (
        model_not_found,
        (
            "invalid model identifier",  # LM Studio
            "no models loaded",
            "no model loaded",
            "not a valid model id",  # OpenRouter
            "no endpoints found for",
            "no allowed providers are available for the selected model",
            "try pulling it first",  # Ollama
            "no model found",
            "cannot find model",
            "cannot find a model",
        ),
    ),
    (_ROUTE, ("unexpected endpoint or method",)),  # LM Studio, with status 200
    (_BUSY, ("overloaded", "server busy")),
]


def _by_status(report: Report) -> Build | None:
    status = report.status
    if status is None:
        return None
    if 300 <= status < 400:
        return _REDIRECT
    if status == 403:
        return _FLAGGED if _has(report, ("flagged", "moderation")) else _PERMISSION
    if status == 429:
        spent = report.code == "insufficient_quota" or _has(report, ("exceeded your current quota",))
        return _QUOTA if spent else _RATE
    return _STATUS.get(status)


def _by_code(report: Report) -> Build | None:
    return (
        _first(_FIRST_WORDS, report)
        or _CODES.get(report.code)
        or _CODES.get(report.kind)
        or (unsupported if report.param in {"reasoning", "reasoning_effort"} else None)
    )


def _by_words(report: Report) -> Build | None:
    build = _first(_WORDS, report)
    if build is None and _has(report, ("model",)) and _has(report, ("not found", "not exist")):
        return model_not_found  # OpenAI, vLLM, Ollama, LM Studio
    return build


def _by_rest(report: Report) -> Build:
    status = report.status or 0
    if status == 404:
        return model_not_found if _has(report, ("model",)) else _ROUTE
    if status == 405:
        return _ROUTE
    if status in _RETRYABLE or 520 <= status < 530:
        return _BUSY
    return make(ServerError)


def _first(rules: list[tuple[Build, tuple[str, ...]]], report: Report) -> Build | None:
    return next((build for build, signs in rules if _has(report, signs)), None)


def _has(report: Report, signs: tuple[str, ...]) -> bool:
    words = report.words
    return any(sign in words for sign in signs)


def _as_status(code: str | int | None) -> int | None:
    """Return the status that some servers (OpenRouter, vLLM, llama.cpp) give as code."""
    text = str(code)
    return int(text) if len(text) == 3 and text.isascii() and text.isdecimal() and text >= "300" else None


def classify(
    message: str,
    *,
    status: int | None = None,
    code: str | int | None = None,
    kind: str | None = None,
    param: str | None = None,
    retry_after: float | None = None,
    model: str | None = None,
    known_models: Iterable[str] = (),
) -> LMBridgeError:
    """Return the error that fits what a server says; the caller raises it.

    Args:
        message: the server's text; shown without control characters and cut after 1,000 characters.
        status: HTTP status, if there is one.
        code: the error's code, e.g. ``"model_not_found"``; a number counts as status where there is none.
        kind: the error's type, e.g. ``"invalid_request_error"``.
        param: the field of the request that the server complains about.
        retry_after: seconds that the server asks to wait.
        model: the model that was asked for.
        known_models: names for near matches; those that the message lists are added.
    """
    number = _as_status(code)
    if number is not None:
        status = number if status is None or status < 400 else status
    report = Report(
        message=message[:_TEXT_LIMIT],
        status=status,
        code="" if code is None or number is not None else str(code).lower(),
        kind=(kind or "").lower(),
        param=param or "",
        retry_after=retry_after,
        model=model,
        known_models=tuple(known_models),
    )
    return (_by_status(report) or _by_code(report) or _by_words(report) or _by_rest(report))(report)
