"""The settings as a whole: which connections there are, what is wrong, and what each resolves to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.errors import ConfigurationError, UnknownConnection, near_matches, redact
from lmbridge.settings.loading import DEFAULT, Default, FileChoice, Loaded, load_layers
from lmbridge.settings.names import environment_name, fold_name, is_connection_name
from lmbridge.settings.report import Row, connection_rows, general_rows
from lmbridge.settings.resolving import Configured, judge_extras, resolve_connection
from lmbridge.settings.values import Problem, Raw

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lmbridge.catalog import ProviderInfo
    from lmbridge.settings.connection import Connection
    from lmbridge.settings.model import ConnectionValues, GeneralValues

__all__ = ["DEFAULT", "Default", "Settings"]


class Settings:
    """Everything that is configured. Immutable: :meth:`load` again to see a change.

    Attributes:
        providers: names of the installed and enabled provider plugins.
        problems: what is wrong, in the order of the sources. A problem of one connection concerns no other.
        files: the files that were looked for: ``env_file``, ``config_file``, each only if there was one to
            look for.
    """

    def __init__(self, loaded: Loaded, providers: Iterable[str] = ()) -> None:
        from lmbridge.settings.model import ConnectionValues, GeneralValues, validate  # noqa: PLC0415 - pydantic

        self._loaded = loaded
        self._layers = layers = loaded.layers
        self.files = dict(loaded.files)
        self.providers = tuple(dict.fromkeys(providers))
        self._by_fold = {fold_name(name): name for name in reversed(self.providers)}
        self._general_raw = _merge(layer.general for layer in layers)
        self._general: GeneralValues
        self._general, general_problems = validate(GeneralValues, self._general_raw)
        self._raw: dict[str, dict[str, Raw]] = {
            name: _merge(layer.connections.get(name, {}) for layer in layers) for name in self._all_names()
        }
        self._values: dict[str, ConnectionValues] = {}
        self._errors: dict[str, tuple[Problem, ...]] = {}
        for name, raw in self._raw.items():
            self._values[name], self._errors[name] = validate(ConnectionValues, raw, name)
        own = [problem for errors in self._errors.values() for problem in errors]
        self._dangling = self._find_dangling()
        self.problems = (*loaded.problems, *general_problems, *own, *self._dangling)

    @classmethod
    def load(
        cls,
        *,
        explicit: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        env_file: FileChoice = DEFAULT,
        config_file: FileChoice = DEFAULT,
        providers: Iterable[str] = (),
    ) -> Settings:
        """Read every source; the first that has a value wins, value by value.

        Blocks on files, so call it off the event loop. Nothing that a source holds makes it fail: what is
        wrong is in :attr:`problems`.

        Args:
            explicit: settings that win over all others, in the form of the TOML file:
                ``{"connections": {"workstation": {"base_url": "…"}}}``.
            environ: the environment; by default the process's.
            env_file: the ``.env`` file; ``None``: none; by default the one that ``LMBRIDGE_ENV_FILE`` names,
                else ``.env`` in the working directory.
            config_file: the TOML file; ``None``: none; by default the one that ``LMBRIDGE_CONFIG_FILE``
                names, else ``lmbridge.toml`` in the user's configuration folder.
            providers: names of the installed provider plugins; each also is a connection.
        """
        return cls(load_layers(explicit, environ, env_file, config_file), providers)

    def with_providers(self, providers: Iterable[str]) -> Settings:
        """Return the same settings for other installed providers, without reading anything again."""
        return Settings(self._loaded, providers)

    def __repr__(self) -> str:
        return f"Settings({', '.join(self.names())}; {len(self.problems)} problems)"

    # -- lmbridge as a whole ---------------------------------------------------------------------------

    @property
    def log(self) -> str | None:
        """Level of the log, in lower case; ``None``: silent."""
        return self._general.log

    @property
    def default_connection(self) -> str | None:
        """The connection to use when none is named."""
        return self._general.default_connection

    @property
    def comfyui_hosts(self) -> tuple[str, ...]:
        """Host names by which ComfyUI's page may use our routes, beside the machine's own."""
        return self._general.comfyui_hosts

    @property
    def plugin_variables(self) -> dict[str, str]:
        """The variables about plugins, of all sources, as :class:`lmbridge.plugins.Plugins` reads them."""
        general, only = self._general, self._general.plugins
        variables = {
            "LMBRIDGE_PLUGINS_DISABLE": ",".join(general.plugins_disable),
            "LMBRIDGE_STRICT_PLUGINS": str(general.strict_plugins).lower(),
        }
        return variables if only is None else variables | {"LMBRIDGE_PLUGINS": ",".join(only)}

    # -- connections -----------------------------------------------------------------------------------

    def names(self) -> tuple[str, ...]:
        """Return the enabled connections: configured ones, and one for each provider that is not removed."""
        return tuple(name for name, values in self._values.items() if values.enabled)

    def provider_of(self, name: str) -> str:
        """Return the name of the connection's provider, which need not be installed.

        Raises:
            UnknownConnection: there is no such connection, or it is disabled.
        """
        return self._provider_of(self._known(name))

    def resolve(self, name: str, info: ProviderInfo) -> Connection:
        """Return the connection with everything filled in.

        Args:
            name: name of the connection; case and ``_`` for ``-`` are ignored.
            info: what its provider says of itself.

        Raises:
            UnknownConnection: there is no such connection, or it is disabled.
            ConfigurationError: one of its settings is wrong.
        """
        name = self._known(name)
        provider = self._provider_of(name)
        for problem in self.check(name, info):
            raise ConfigurationError(
                f"{problem.variable}: {problem.message}",
                hint=problem.hint,
                connection=name,
                provider=provider,
            )
        try:
            return resolve_connection(self._configured(name), self._layers, info)
        except ConfigurationError as exc:
            exc.locate(name, provider)
            raise

    def check(self, name: str, info: ProviderInfo) -> tuple[Problem, ...]:
        """Return what is wrong with a connection, settings that its provider does not know included.

        Raises:
            UnknownConnection: there is no such connection, or it is disabled.
        """
        name = self._known(name)
        return (*self._errors[name], *judge_extras(self._configured(name), info))

    def report(self, infos: Mapping[str, ProviderInfo] | None = None) -> list[Row]:
        """Return every setting with its value and where it came from; secrets are masked.

        Args:
            infos: what providers say of themselves, by name, as far as known; without, their default
                addresses, keys and further settings cannot be told.
        """
        rows = general_rows(self._general, self._general_raw, self.problems, self.files)
        for name in self._values:
            configured = self._configured(name)
            rows += connection_rows(configured, self._layers, (infos or {}).get(configured.provider))
        return rows

    def environment_name(self, connection: str | None, field: str) -> str:
        """Return the variable that sets ``field`` of ``connection`` (``None``: of lmbridge as a whole)."""
        return environment_name(connection, field)

    # -- inside ----------------------------------------------------------------------------------------

    def _all_names(self) -> tuple[str, ...]:
        own = filter(is_connection_name, map(fold_name, self.providers))
        configured = (name for layer in self._layers for name in layer.connections)
        return tuple(dict.fromkeys((*own, *configured)))

    def _configured(self, name: str) -> Configured:
        dangling = (problem for problem in self._dangling if problem.connection == name)
        problems = (*self._errors[name], *dangling)
        return Configured(name, self._provider_of(name), self._values[name], self._raw[name], problems)

    def _known(self, name: str) -> str:
        folded = fold_name(name)
        values = self._values.get(folded)
        if values is None:
            shown = redact(name[:100])  # a server's clients may send any length, and keys by mistake
            raise UnknownConnection(
                f"no connection is named {shown!r}",
                hint=_near(fold_name(shown), self.names()) or None,
                connection=shown,
            )
        if not values.enabled:
            where = self._raw[folded]["enabled"].origin.label
            raise UnknownConnection(
                f"the connection {folded!r} is disabled by {where}", hint="set it to true"
            )
        return folded

    def _provider_of(self, name: str) -> str:
        wanted = self._values[name].provider or name
        return wanted if wanted in self.providers else self._by_fold.get(fold_name(wanted), wanted)

    def _find_dangling(self) -> tuple[Problem, ...]:
        """Return the names that lead nowhere. Without any provider there is nothing to lead to."""
        if not self.providers:
            return ()
        names = self.names()
        problems = [
            self._no_provider(name) for name in names if self._provider_of(name) not in self.providers
        ]
        default = self.default_connection
        if default is not None and default not in names:
            label = self._general_raw["default_connection"].origin.label
            problems.append(Problem(None, label, "there is no such connection", _near(default, names)))
        return tuple(problems)

    def _no_provider(self, name: str) -> Problem:
        raw = self._raw[name].get("provider")
        variable = environment_name(name, "provider") if raw is None else raw.origin.label
        message = "no provider plugin of that name is installed and enabled"
        if raw is None:
            message = f"it is not set, and no provider plugin named {name!r} is installed and enabled"
        hint = _near(self._provider_of(name), self.providers) or f"use one of {', '.join(self.providers)}"
        if "--" in name:
            hint += "; two underscores part a connection from its setting: is one too many in the variable?"
        return Problem(name, variable, message, hint)


def _merge(sources: Iterable[Mapping[str, Raw]]) -> dict[str, Raw]:
    merged: dict[str, Raw] = {}
    for source in sources:
        merged = {**source, **merged}
    return merged


def _near(name: str, known: Iterable[str]) -> str:
    near = near_matches(name, known)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""
