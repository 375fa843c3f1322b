"""``lmbridge emulator``."""

import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

Start = Callable[..., Any]
TOKEN = "sk-lm-ABCDEFGH:abcdefghij0123456789"
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))
posix_only = pytest.mark.skipif(
    sys.platform == "win32", reason="a signal cannot be sent to one process alone"
)


def _url(process: Any) -> str:
    first = process.stdout.readline().decode()
    assert first.startswith("LM Studio emulator: http://127.0.0.1:")
    return first.split()[-1]


def _until(process: Any, part: str) -> str:
    for line in process.stdout:
        if part in line.decode():
            return str(line.decode())
    raise AssertionError(f"{part} was not written")


def _get(url: str) -> int:
    try:
        with _LOCAL.open(url, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_it_says_where_it_is_and_how_to_use_it(start: Start) -> None:
    process = start("emulator", "--port", "0", "--fast")
    url = _url(process)
    greeting = [process.stdout.readline().decode() for _ in range(4)]
    assert f"LMBRIDGE_CONNECTIONS__EMULATOR__BASE_URL={url} lmbridge chat" in greeting[0]
    assert f"OpenAI(base_url='{url}/v1'" in greeting[1]
    assert url.removeprefix("http://") in greeting[2]
    assert _get(f"{url}/v1/models") == 200


def test_each_request_is_a_line_without_secrets_and_texts(
    start: Start, run_process: Any, monkeypatch: Any
) -> None:
    process = start("emulator", "--port", "0", "--fast", "--token", TOKEN, "--load", "qwen/qwen3-4b")
    url = _url(process)
    assert _get(f"{url}/v1/models") == 401
    assert _until(process, "/v1/models").split(" · ")[:3] == ["#1 GET /v1/models", "401", "failed"]
    monkeypatch.setenv("LMBRIDGE_CONNECTIONS__BOX__PROVIDER", "openai-compat")
    monkeypatch.setenv("LMBRIDGE_CONNECTIONS__BOX__BASE_URL", url)
    monkeypatch.setenv("LMBRIDGE_CONNECTIONS__BOX__API_KEY", TOKEN)
    assert run_process("chat", "-c", "box", "[[say=my secret]]").out == "my secret\n"
    line = _until(process, "/v1/chat/completions")
    assert "200 · finished · qwen/qwen3-4b · " in line
    assert line.endswith(" tokens\n")
    assert "secret" not in line
    assert TOKEN not in line


def test_switches_change_its_behaviour(start: Start) -> None:
    process = start("emulator", "--port", "0", "--set", "old_server=true")
    url = _url(process)
    with _LOCAL.open(f"{url}/api/v1/models", timeout=10) as response:
        assert b"Unexpected endpoint" in response.read()


@posix_only
def test_ctrl_c_is_its_regular_end(start: Start, interrupt: Callable[[Any], None]) -> None:
    process = start("emulator", "--port", "0")
    _url(process)
    interrupt(process)
    assert process.stderr.read() == b"stopped\n"
    assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com"])  # noqa: S104 - is refused
def test_other_machines_are_kept_out(run: Any, host: str) -> None:
    outcome = run("emulator", "--host", host)
    assert outcome.code == 2
    assert "--allow-remote" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--token", "my-own-secret"), "not the form of an API token"),
        (("--load", "no-such-model"), "'no-such-model' is not in the emulator's catalogue"),
        (("--set", "jitt=1"), "did you mean jit"),
    ],
)
def test_what_the_user_must_change_is_told(run: Any, arguments: tuple[str, ...], told: str) -> None:
    outcome = run("emulator", "--port", "0", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert told in outcome.err
    assert "my-own-secret" not in outcome.err


def test_a_port_that_is_taken_is_told(run: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        outcome = run("emulator", "--port", str(taken.getsockname()[1]))
    assert outcome.code == 2
    assert "cannot listen on 127.0.0.1:" in outcome.err
    assert "--port 0" in outcome.err


def test_the_switches_are_listed(run: Any) -> None:
    outcome = run("emulator", "--switches")
    assert outcome.code == 0
    assert "jit\ttrue or false\ttrue\tdocumented\tLoad a downloaded model" in outcome.out
