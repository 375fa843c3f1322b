"""Where a server listens, in the forms that clients want."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Addressed(ABC):
    """Something that listens."""

    @property
    @abstractmethod
    def host(self) -> str:
        """The address it listens on."""

    @property
    @abstractmethod
    def port(self) -> int:
        """The port it listens on.

        Raises:
            RuntimeError: it has not been started.
        """

    @property
    def address(self) -> str:
        """`host:port`, as the SDK wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at the end."""
        return f"http://{self.address}"
