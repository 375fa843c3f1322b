"""What a test of the kit says when a provider breaks a rule, and what no text may hold."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import traceback
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Overheard", "check", "listening", "shows"]


def check(condition: object, sentence: str) -> None:
    """Fail the test with ``sentence`` unless ``condition`` is true."""
    __tracebackhide__ = True
    if not condition:
        raise AssertionError(sentence)


def shows(text: str, secret: str) -> bool:
    """Whether a text has the secret in it, in any form in which it is sent."""
    forms = {secret, quote(secret, safe="")}
    for plain in (secret, f":{secret}", f"api:{secret}"):
        forms.add(base64.b64encode(plain.encode()).decode().rstrip("="))
    return any(form in text for form in forms)


class Overheard:
    """What was said while somebody listened.

    Attributes:
        logged: every record of the standard library's logging, formatted.
        written: what went to standard output and error.
    """

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self._log = io.StringIO()

    @property
    def logged(self) -> str:
        """Every record, formatted, with its traceback."""
        return self._log.getvalue()

    @property
    def written(self) -> str:
        """What went to standard output and error."""
        return self._stream.getvalue()

    def places(self, secret: str, error: BaseException | None = None) -> list[str]:
        """Return where the secret can be read."""
        texts = {"the log": self.logged, "standard output": self.written}
        if error is not None:
            texts |= {
                "str(error)": str(error),
                "repr(error)": repr(error),
                "the error's traceback": "".join(traceback.format_exception(error)),
                "the error's attributes": repr(vars(error)),
            }
        return [place for place, text in texts.items() if shows(text, secret)]


@contextlib.contextmanager
def listening() -> Iterator[Overheard]:
    """Collect everything that is logged, at every level, and written."""
    heard = Overheard()
    handler = logging.StreamHandler(heard._log)  # noqa: SLF001 - its own
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    levels = _levels()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        for logger in levels:
            logger.setLevel(logging.DEBUG)
        with contextlib.redirect_stdout(heard._stream), contextlib.redirect_stderr(heard._stream):  # noqa: SLF001
            yield heard
    finally:
        root.removeHandler(handler)
        for logger, level in levels.items():
            logger.setLevel(level)


def _levels() -> dict[logging.Logger, int]:
    names = [
        name for name, item in logging.root.manager.loggerDict.items() if isinstance(item, logging.Logger)
    ]
    loggers = [logging.getLogger(), *map(logging.getLogger, names)]
    return {logger: logger.level for logger in loggers}
