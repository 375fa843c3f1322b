"""The process's one bridge, and what the dropdowns offer.

Reading the settings and finding the plugins waits until the server starts: ComfyUI's own start is not to
become slower by a pack that may not be used.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from . import _host

if TYPE_CHECKING:
    from pathlib import Path

    from lmbridge.bridge import Bridge
    from lmbridge.plugins import Plugins
    from lmbridge.settings import Settings

__all__ = ["Choices", "Service", "service"]

_log = logging.getLogger(__name__)

#: A page may ask for the nodes while the plugins are still being found; that takes a fraction of a second.
_PREPARE_SECONDS = 10.0


class Choices(NamedTuple):
    """What the dropdowns offer, and whom the routes serve.

    Attributes:
        connections: names of the enabled connections, the default one first.
        presets: names of all presets.
        hosts: further names of this machine that the page may use.
    """

    connections: tuple[str, ...] = ()
    presets: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


class Opened(NamedTuple):
    """The bridge and what it was made of."""

    bridge: Bridge
    settings: Settings
    plugins: Plugins


class Service:
    """Opens the bridge at its first use; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: Opened | None = None
        self._choices = Choices()
        self._prepared: threading.Event | None = None

    def open(self) -> Opened:
        """Return the bridge. Blocks on files at the first call, so not on an event loop."""
        with self._lock:
            if self._opened is None:
                self._opened = _open()
            return self._opened

    def choices(self) -> Choices:
        """Return what the dropdowns offer: nothing as long as ComfyUI is still loading its packs."""
        if self._prepared is not None:
            self._prepared.wait(_PREPARE_SECONDS)
        return self._choices

    def addresses(self) -> dict[str, tuple[str, str]]:
        """Return each connection's provider and address, empty if it is the provider's own. May block."""
        settings = self.open().settings
        told = {row.connection: row.value for row in settings.report() if row.setting == "base_url"}
        return {name: (settings.provider_of(name), told.get(name, "")) for name in settings.names()}

    def prepare_in_background(self) -> None:
        """Find out what the dropdowns offer; whoever asks for them waits for it."""
        self._prepared = threading.Event()
        threading.Thread(target=self.prepare, name="lmbridge-prepare", daemon=True).start()

    def prepare(self) -> None:
        """Find out what the dropdowns offer. Blocks; what goes wrong is logged."""
        try:
            self._choices = _find_choices(self.open())
        except Exception:  # noqa: BLE001 - on a thread of its own; ComfyUI runs on with empty dropdowns
            _log.exception("LM Bridge cannot read its settings")
        finally:
            if self._prepared is not None:
                self._prepared.set()


def _open() -> Opened:
    from lmbridge.bridge import Bridge  # noqa: PLC0415 - 50 ms that ComfyUI's start does not pay
    from lmbridge.plugins import Plugins  # noqa: PLC0415
    from lmbridge.settings import Settings  # noqa: PLC0415

    env_file = _private_env_file()
    settings = Settings.load() if env_file is None else Settings.load(env_file=env_file)
    plugins = Plugins(environ=settings.plugin_variables)
    settings = settings.with_providers(plugins.providers)
    return Opened(Bridge(settings=settings, plugins=plugins), settings, plugins)


def _private_env_file() -> Path | None:
    """Return the ``.env`` of the folder that ComfyUI never serves, unless a variable names another."""
    folder = _host.private_folder()
    if folder is None or any(name.upper() == "LMBRIDGE_ENV_FILE" for name in os.environ):
        return None
    path = folder / ".env"
    return path if path.is_file() else None


def _find_choices(opened: Opened) -> Choices:
    from lmbridge.presets import PRESETS  # noqa: PLC0415

    names, default = list(opened.settings.names()), opened.settings.default_connection
    if default in names:
        names.remove(default)
        names.insert(0, default)
    presets = tuple({**PRESETS, **opened.plugins.presets()})
    return Choices(tuple(names), presets, opened.settings.comfyui_hosts)


service = Service()
