"""The errors that the emulator answers, with the bodies that a real server was seen to send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator.evidence import known

if TYPE_CHECKING:
    from collections.abc import Iterable

_ANTHROPIC = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
}
"""Anthropic's type of an error by its status."""


class EmulatedError(Exception):
    """An error in the forms of all routes.

    Args:
        message: the text.
        status: HTTP status.
        native_type: `error.type` on `/api/v1`.
        code: `error.code`.
        param: `error.param`.
        compat_type: `error.type` on the compatible routes.
        as_string: the compatible routes answer `{"error": "<message>"}`.
        display: `displayData` on the websockets.
        title: another text for the websockets.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        native_type: str = "invalid_request",
        code: str | None = None,
        param: str | None = None,
        compat_type: str = "invalid_request_error",
        as_string: bool = False,
        display: dict[str, Any] | None = None,
        title: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.native_type = native_type
        self.code = code
        self.param = param
        self.compat_type = compat_type
        self.as_string = as_string
        self.display = display
        self.title = title or message

    def native(self) -> dict[str, Any]:
        """Return the value of `error` on `/api/v1` (docs: rest/streaming-events)."""
        error: dict[str, Any] = {"type": self.native_type, "message": self.message}
        if self.code is not None:
            error["code"] = self.code
        if self.param is not None:
            error["param"] = self.param
        return error

    def compat(self, *, string: bool = False) -> dict[str, Any]:
        """Return the whole body on the compatible routes."""
        if string or self.as_string:
            return {"error": self.message}
        return {"error": self.compat_object()}

    def compat_object(self) -> dict[str, Any]:
        """Return the object that is the value of `error` on the compatible routes."""
        return {"message": self.message, "type": self.compat_type, "param": self.param, "code": self.code}

    def anthropic(self) -> dict[str, Any]:
        """Return the whole body on `/v1/messages` (form: bug-tracker#1755; types: Anthropic's API)."""
        kind = _ANTHROPIC.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": self.message}}

    def serialized(self) -> dict[str, Any]:
        """Return the error object of the websockets (lmstudio-js: SerializedLMSExtendedError)."""
        error: dict[str, Any] = {"title": self.title, "rootTitle": self.title}
        if self.display is not None:
            error["displayData"] = self.display
        return error


@known("documented", "LM Studio docs, rest/streaming-events")
def missing(param: str) -> EmulatedError:
    """A required field is absent."""
    return EmulatedError(f'"{param}" is required', code="missing_required_parameter", param=param)


@known("assumed", "no text was published")
def wrong_type(param: str, expected: str) -> EmulatedError:
    """A field has the wrong type."""
    return EmulatedError(
        f"Invalid type for '{param}': expected {expected}.", code="invalid_type", param=param
    )


@known("observed", "Caption-Creator#4, lmstudio-bug-tracker#2024")
def unknown_keys(keys: list[str]) -> EmulatedError:
    """A strict route met keys it does not know."""
    listed = ", ".join(f"'{key}'" for key in keys)
    return EmulatedError(f"Unrecognized key(s) in object: {listed}", code="unrecognized_keys", param=keys[0])


@known("observed", "opencode-lmstudio#41")
def no_token() -> EmulatedError:
    """No API token was sent."""
    return EmulatedError(
        "An LM Studio API token is required to make requests to this server, but none was provided using the "
        "Authorization header using the 'Bearer' scheme (i.e., 'Authorization: Bearer $LM_API_TOKEN'). "
        "Learn more at: https://lmstudio.ai/docs/developer/core/authentication.",
        status=401,
        code="invalid_api_key",
        compat_type="invalid_request",
    )


@known("observed", "opencode-lmstudio#41, that it is refused")
@known("assumed", "no text was published", "Its text names the token as invalid.")
def wrong_token() -> EmulatedError:
    """The API token is malformed or unknown."""
    return EmulatedError(
        "Invalid LM Studio API token. Learn more at: https://lmstudio.ai/docs/developer/core/authentication.",
        status=401,
        code="invalid_api_key",
        compat_type="invalid_request",
    )


@known("observed", "agent-zero#215, lmstudio-bug-tracker#1730")
@known(
    "assumed",
    "the routes of /api/v1 were not published",
    "On `/api/v1` it has the same text, status 400, or 404 with JIT off, and the type `model_not_found`.",
)
def unknown_model(key: str, known: Iterable[str], *, jit: bool) -> EmulatedError:
    """No downloaded (or, without JIT, no loaded) model has this key."""
    names = list(known)
    listed = ", ".join(names)
    if jit:
        message = (
            f'Invalid model identifier "{key}". Please specify a valid downloaded model (e.g., {listed}).'
        )
    else:
        models = "\n".join(names)
        message = f'Model "{key}" not found. Please specify a valid model.\n\nYour models:\n\n{models}'
    display = {
        "code": "generic.pathNotFound",
        "path": key,
        "availablePathsSample": names[:10],
        "totalModels": len(names),
    }
    return EmulatedError(
        message,
        status=400 if jit else 404,
        native_type="model_not_found",
        code="model_not_found",
        param="model",
        display=display,
        title=f"Cannot find a model with path {key!r}",
    )


@known("observed", "lmstudio-bug-tracker#1730")
def nothing_loaded() -> EmulatedError:
    """No model is named, or none may be loaded, and none is."""
    return EmulatedError(
        "No models loaded. Please load a model in the developer page or use the 'lms load' command.",
        native_type="model_not_found",
        param="model",
        display={
            "code": "generic.noModelMatchingQuery",
            "query": {},
            "loadedModelsSample": [],
            "totalLoadedModels": 0,
        },
    )


@known("documented", "lmstudio-js, generic.noModelMatchingQuery")
def no_instance(query: dict[str, Any], loaded: list[str]) -> EmulatedError:
    """A handle of the SDK names no loaded instance."""
    return EmulatedError(
        "No model found that fits the query",
        status=404,
        native_type="model_not_found",
        display={
            "code": "generic.noModelMatchingQuery",
            "query": query,
            "loadedModelsSample": loaded[:10],
            "totalLoadedModels": len(loaded),
        },
    )


@known("documented", "lmstudio-js, generic.identifierNotFound")
@known(
    "assumed",
    "LM Studio docs, rest/unload does not say",
    "On `/api/v1` it is a 404 of the type `model_not_found`.",
)
def unknown_instance(identifier: str, loaded: list[str]) -> EmulatedError:
    """An instance to unload does not exist."""
    return EmulatedError(
        f"Model instance '{identifier}' not found.",
        status=404,
        native_type="model_not_found",
        code="model_not_found",
        param="instance_id",
        display={
            "code": "generic.identifierNotFound",
            "identifier": identifier,
            "loadedModelsSample": loaded[:10],
            "totalLoadedModels": len(loaded),
        },
    )


@known("documented", "lmstudio-js, generic.domainMismatch")
def domain_mismatch(key: str, actual: str, expected: str) -> EmulatedError:
    """An embedding model was asked to chat, or the reverse."""
    return EmulatedError(
        f"Model {key!r} is of domain {actual!r}, but {expected!r} was expected.",
        code="model_not_found",
        param="model",
        display={
            "code": "generic.domainMismatch",
            "path": key,
            "actualDomain": actual,
            "expectedDomain": expected,
        },
    )


@known("observed", "agent-zero#215")
def load_failed(key: str) -> EmulatedError:
    """There is no memory for the model."""
    return EmulatedError(
        f'Failed to load model "{key}". Error: Model loading aborted due to insufficient system resources. '
        "Overloading the system will likely cause it to freeze. If you believe this is a mistake, you can "
        "try to change the model loading guardrails in the settings.",
        status=404,
        native_type="internal_error",
        code="model_load_failed",
        param="model",
    )


@known("assumed", "no text was published")
def load_cancelled(key: str) -> EmulatedError:
    """A load was stopped by the client that began it."""
    return EmulatedError(f'Failed to load model "{key}". Error: Operation canceled.', status=500)


@known("observed", "lmstudio-bug-tracker#1755, #2255")
def crashed() -> EmulatedError:
    """The engine died."""
    return EmulatedError(
        "The model has crashed without additional information. (Exit code: null)",
        status=500,
        native_type="internal_error",
        as_string=True,
    )


@known("documented", "lmstudio-js, generic.specificModelUnloaded")
def unloaded() -> EmulatedError:
    """The model was unloaded under a running prediction."""
    return EmulatedError(
        "Model unloaded.",
        status=500,
        native_type="internal_error",
        as_string=True,
        display={"code": "generic.specificModelUnloaded"},
    )


class ContextOverflow(EmulatedError):
    """The prompt does not fit the context."""


@known("observed", "lmstudio-bug-tracker#1188, the code")
@known("assumed", "OpenAI's Responses API", "Its text and status are OpenAI's.")
def no_previous_response(response_id: str) -> EmulatedError:
    """A response to continue is not stored."""
    return EmulatedError(
        f"Previous response with id '{response_id}' not found.",
        code="previous_response_not_found",
        param="previous_response_id",
    )


@known("observed", "openclaude#353, lmstudio-bug-tracker#2322")
def overflow(style: str, prompt: int, context: int) -> ContextOverflow:
    """The prompt does not fit the context, in the words of one of several engines."""
    advice = "Try to load the model with a larger context length, or provide a shorter input"
    texts = {
        "0.4": "The number of tokens to keep from the initial prompt is greater than the context length "
        f"(n_keep: {prompt}>= n_ctx: {context}). {advice}.",
        "0.3": f"Trying to keep the first {prompt} tokens when context the overflows. However, the model is "
        f"loaded with context length of only {context} tokens, which is not enough. {advice}",
        "mlx": "Context size has been exceeded",
        "llama-server": f"exceed_context_size: the request exceeds the available context size ({context})",
    }
    return ContextOverflow(texts[style], as_string=True)


@known("observed", "comfyui-deno-custom-nodes#24, #68")
def no_reasoning(key: str) -> EmulatedError:
    """A reasoning setting was sent to a model that has none."""
    return EmulatedError(
        f"Model '{key}' does not expose reasoning configuration.", code="invalid_value", param="reasoning"
    )


@known("observed", "localmind#75")
def wrong_reasoning(key: str, value: object, allowed: Iterable[str]) -> EmulatedError:
    """A model does not take this reasoning setting."""
    listed = ", ".join(f"'{option}'" for option in allowed)
    return EmulatedError(
        f"Reasoning setting '{value}' is not supported by model '{key}'. Supported settings: {listed}.",
        code="invalid_value",
        param="reasoning",
    )


@known("observed", "lmstudio-bug-tracker#1027, #1120, #1752")
def not_base64() -> EmulatedError:
    """A picture is no data URL."""
    return EmulatedError("'url' field must be a base64 encoded image.", as_string=True, param="input")


@known("observed", "lmstudio-bug-tracker#2003, that it is refused")
@known("assumed", "no text was published", "Its text says that the picture could not be processed.")
def bad_picture() -> EmulatedError:
    """A picture cannot be decoded, or is too large."""
    return EmulatedError("Failed to process image.", as_string=True, param="input")


@known("assumed", "no text was published")
def no_vision(key: str) -> EmulatedError:
    """A picture was sent to a model without eyes."""
    message = "Model does not support images. Please use a model that does."
    return EmulatedError(message, as_string=True, param="input", title=f"{message} ({key})")


@known("observed", "lmstudio-bug-tracker#669")
def unknown_role(role: object) -> EmulatedError:
    """A message of a chat completion has a role that there is not."""
    return EmulatedError(
        "'messages' array must only contain objects with a 'role' field that is in [user, assistant, system, "
        f"tool]. Got '{role}'",
        as_string=True,
        param="messages",
    )


@known("observed", "lmstudio-bug-tracker#189, #670, for the string form")
def invalid(message: str, param: str | None = None) -> EmulatedError:
    """Another invalid request on a compatible route, as a string."""
    return EmulatedError(message, as_string=True, param=param)
