"""What settings there are, with their types, defaults and meaning. Imports pydantic, so it is loaded late.

The reference in ``docs/reference/settings.md`` is generated from these models.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError

from lmbridge.errors import ConfigurationError
from lmbridge.images import ImageBudget
from lmbridge.settings.addresses import normalise_address
from lmbridge.settings.connection import DEFAULT_TIMEOUTS
from lmbridge.settings.keys import clean_key
from lmbridge.settings.names import fold_name, is_connection_name
from lmbridge.settings.values import Problem, Raw

__all__ = ["ConnectionValues", "GeneralValues", "make_secret", "validate"]

_T = TypeVar("_T", bound=BaseModel)
_YEAR = 366 * 24 * 3600.0
_BUDGET = ImageBudget()


def _checked(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Turn a ``ConfigurationError`` into pydantic's form of an error, which then has no value in it."""

    def check(value: Any) -> Any:
        try:
            return function(value)
        except ConfigurationError as exc:
            raise PydanticCustomError(
                "lmbridge", "{reason}", {"reason": exc.message, "hint": exc.hint}
            ) from None

    return check


def _fold_word(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _fold_format(value: Any) -> Any:
    return "jpeg" if (word := _fold_word(value)) == "jpg" else word


def _split_names(value: Any) -> Any:
    return [item for part in value.split(",") if (item := part.strip())] if isinstance(value, str) else value


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ConfigurationError("input should be a number")
    return value


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ConfigurationError("a line break or an invisible character is in it", hint="remove it")
    return value


def _connection_name(value: str) -> str:
    if not is_connection_name(name := fold_name(value)):
        raise ConfigurationError("this is no name of a connection")
    return name


_Line = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_checked(_one_line))]
_Number = BeforeValidator(_checked(_no_bool))
_Seconds = Annotated[float, Field(ge=0, le=_YEAR), _Number]
_Limit = Annotated[int, Field(ge=0, le=2**53), _Number]
_Names = Annotated[tuple[_Line, ...], BeforeValidator(_split_names)]
_Address = Annotated[str, BeforeValidator(_checked(normalise_address))]


class _Values(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, str_strip_whitespace=True
    )


class ConnectionValues(_Values):
    """The settings of one connection."""

    provider: _Line | None = Field(
        None,
        description="Name of the provider plugin. Unset: the connection's own name.",
        examples=["lmstudio-rest"],
    )
    base_url: _Address | None = Field(
        None,
        description="Address of the server, in any usual form; see below. Unset: the provider's default.",
        examples=["http://192.168.1.5:1234"],
    )
    api_key: Annotated[SecretStr, BeforeValidator(_checked(clean_key))] | None = Field(
        None,
        description="Key or token, sent to this connection's address only. Unset: a key that belongs to the "
        "address, if the provider knows one; see below.",
        examples=["a-made-up-key"],
    )
    enabled: bool = Field(True, description="`false` removes the connection.", examples=["false"])
    model: _Line | None = Field(
        None, description="The model for requests that name none.", examples=["qwen3-vl-4b"]
    )
    connect_timeout: _Seconds = Field(
        DEFAULT_TIMEOUTS.connect or 0.0,
        description="Seconds until the connection stands; 0: no limit.",
        examples=["2.5"],
    )
    first_event_timeout: _Seconds = Field(
        DEFAULT_TIMEOUTS.first_event or 0.0,
        description="Seconds until the server's first event, and between reports of its progress before the "
        "answer begins; 0: no limit.",
        examples=["900"],
    )
    idle_timeout: _Seconds = Field(
        DEFAULT_TIMEOUTS.idle or 0.0,
        description="Seconds of silence once the answer has begun; 0: no limit.",
        examples=["60"],
    )
    total_timeout: _Seconds = Field(
        DEFAULT_TIMEOUTS.total or 0.0,
        description="Seconds for the whole call, waiting in our queue included; 0: no limit.",
        examples=["3600"],
    )
    max_concurrency: Annotated[int, Field(ge=1, le=100_000), _Number] | None = Field(
        None,
        description="Requests that may run at once; more wait in a fair queue. Unset: as the server tells.",
        examples=["4"],
    )
    image_max_side: _Limit = Field(
        _BUDGET.max_side or 0,
        description="Most pixels of a picture's longer side; larger ones are shrunk. 0: no limit.",
        examples=["1536"],
    )
    image_max_pixels: _Limit = Field(
        _BUDGET.max_pixels or 0,
        description="Most pixels of a picture in all. 0: no limit. A provider's lower limit holds, too.",
        examples=["2000000"],
    )
    image_max_bytes: _Limit = Field(
        _BUDGET.max_bytes or 0,
        description="Most bytes of a picture's file, before base64. 0: no limit.",
        examples=["4000000"],
    )
    image_format: Annotated[Literal["jpeg", "png"], BeforeValidator(_fold_format)] = Field(
        _BUDGET.format, description="What pictures are sent as: `jpeg` or `png`.", examples=["png"]
    )
    image_quality: Annotated[int, Field(ge=1, le=95), _Number] = Field(
        _BUDGET.quality, description="JPEG quality, 1 to 95.", examples=["90"]
    )
    on_unsupported: Annotated[Literal["error", "adapt"], BeforeValidator(_fold_word)] | None = Field(
        None,
        description="What to do with an option that the server cannot honour: `error` refuses the request, "
        "`adapt` leaves the option out and says so. Unset: as the caller does it.",
        examples=["adapt"],
    )


class GeneralValues(_Values):
    """The settings of lmbridge as a whole."""

    log: (
        Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_fold_word)]
        | None
    ) = Field(None, description="Level of the log on standard error. Unset: silent.", examples=["debug"])
    plugins: _Names | None = Field(
        None,
        description="The only plugins that may be imported, by entry-point name, parted by commas; set and "
        "empty: none. Unset: every installed one.",
        examples=["lmstudio-rest,openai-compat"],
    )
    plugins_disable: _Names = Field(
        (), description="Plugins that are never imported, parted by commas.", examples=["lmstudio-sdk"]
    )
    strict_plugins: bool = Field(
        False,
        description="`true` makes a broken plugin an error, instead of leaving it out and reporting it.",
        examples=["true"],
    )
    default_connection: Annotated[_Line, AfterValidator(_checked(_connection_name))] | None = Field(
        None,
        description="The connection that the command line uses when none is named.",
        examples=["workstation"],
    )
    comfyui_hosts: _Names = Field(
        (),
        description="Host names by which ComfyUI's page may use lmbridge's routes, parted by commas. "
        "IP addresses, `localhost` and the machine's own name always may.",
        examples=["studio.lan"],
    )
    env_file: _Line | None = Field(
        None,
        description="The `.env` file, instead of the one in the working directory. Environment only.",
        examples=["~/lmbridge.env"],
    )
    config_file: _Line | None = Field(
        None,
        description="The TOML file, instead of the one in the user's configuration folder. "
        "Environment or `.env` only.",
        examples=["~/lmbridge.toml"],
    )


def validate(
    model: type[_T], raw: Mapping[str, Raw], connection: str | None = None
) -> tuple[_T, tuple[Problem, ...]]:
    """Validate the known settings among ``raw`` one by one.

    Returns:
        the valid values, defaults in the place of wrong ones, and what is wrong.
    """
    values = {name: item.value for name, item in raw.items() if name in model.model_fields}
    try:
        return model.model_validate(values), ()
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
    problems: dict[str, Problem] = {}
    for error in errors:
        name = str(error["loc"][0])
        hint = str(error.get("ctx", {}).get("hint", ""))
        problems.setdefault(name, Problem(connection, raw[name].origin.label, _sentence(error["msg"]), hint))
        values.pop(name, None)
    return model.model_validate(values), tuple(problems.values())


def make_secret(text: str) -> SecretStr:
    """Wrap a key."""
    return SecretStr(text)


def _sentence(text: str) -> str:
    return text[:1].lower() + text[1:]
