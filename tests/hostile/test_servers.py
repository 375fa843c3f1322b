"""Whatever answers at the address that is not the right server, in the right mood."""

import asyncio
import json
import re
from functools import partial

import pytest

from lmbridge import (
    AuthenticationFailed,
    ConfigurationError,
    Message,
    ModelNotFound,
    ProtocolError,
    RateLimited,
    Request,
    ServerError,
    ServerUnreachable,
    TimedOut,
    Timeouts,
)


def http(status: int, body: bytes, kind: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def page(status: int, title: str) -> bytes:
    body = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>x</body></html>"
    return http(status, body.encode(), "text/html; charset=utf-8")


def error(status: int, payload: object, *headers: str) -> bytes:
    return http(status, json.dumps(payload).encode(), "application/json", *headers)


async def reply(answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the first request, with its key repeated in the answer, and hang up."""
    head = await reader.readuntil(b"\r\n\r\n")
    key = next(
        (line[22:] for line in head.split(b"\r\n") if line.lower().startswith(b"authorization: bearer ")), b""
    )
    body = answer.replace(b"KEYKEYKEY", key)
    if b"KEYKEYKEY" in answer:
        top, _, rest = body.partition(b"\r\n\r\n")
        lines = [line for line in top.split(b"\r\n") if not line.startswith(b"Content-Length")]
        body = b"\r\n".join([*lines, f"Content-Length: {len(rest)}".encode(), b"", b""]) + rest
    writer.write(body)
    await writer.drain()
    writer.write_eof()
    await reader.read()


async def speak_first(banner: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say something before anything was asked, as SSH, FTP, SMTP and MySQL do."""
    writer.write(banner)
    await writer.drain()
    await reader.read(1)
    writer.write_eof()
    await reader.read()


async def answer_a_line(line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the first line and hang up at ``Host:``, as Redis does."""
    await reader.readline()
    writer.write(line)
    await writer.drain()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.transport.abort()


NO_HTTP = {
    "an SSH banner": partial(speak_first, b"SSH-2.0-OpenSSH_9.6p1 Ubuntu-3\r\n"),
    "an SMTP greeting": partial(speak_first, b"220 mail.example ESMTP\r\n"),
    "a MySQL handshake": partial(speak_first, b"J\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00"),
    "a Redis reply": partial(answer_a_line, b"-ERR unknown command 'GET'\r\n"),
    "binary noise": partial(speak_first, bytes(range(256)) * 8),
    "a TLS alert": partial(speak_first, b"\x15\x03\x01\x00\x02\x02\x16"),
    "an HTTP/2 preface": partial(speak_first, b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"),
    "a status line without end": partial(speak_first, b"HTTP/1.1 200 " + b"x" * 200_000),
    "headers without end": partial(speak_first, b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 30_000),
    "an impossible length": partial(reply, b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"),
    "an impossible chunk": partial(reply, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "an unknown encoding": partial(
        reply, b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain"
    ),
    "nothing at all": hang_up,
    "a reset": reset,
}


@pytest.mark.parametrize("name", NO_HTTP)
async def test_a_port_that_speaks_something_else(target, ground, meet, name):
    where = await ground.serve(NO_HTTP[name])
    met = await meet(target, where)
    assert isinstance(met.error, ServerUnreachable | ProtocolError), met.error
    assert where in met.error.message
    assert "port" in met.error.hint or "log" in met.error.hint, met.error
    assert met.events == []


HTTP = {
    "a web page": (page(200, "Router login"), ProtocolError, "web page|other than LM Studio"),
    "a page without a title": (
        http(200, b"<html>", "text/html"),
        ProtocolError,
        "web page|other than LM Studio",
    ),
    "a page that says nothing is there": (
        page(404, "404 Not Found"),
        ServerError | ProtocolError,
        "web page|LM Studio",
    ),
    "a gateway without a server": (page(502, "502 Bad Gateway"), ServerError | ProtocolError, "Bad Gateway"),
    "plain text": (
        http(200, b"It works!", "text/plain"),
        ProtocolError,
        "JSON|other than LM Studio|event stream",
    ),
    "an empty body": (http(200, b"", "text/plain"), ProtocolError, ""),
    "no content": (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", ProtocolError, ""),
    "other JSON": (http(200, b'{"hello": "world"}', "application/json"), ProtocolError, ""),
    "a JSON list": (http(200, b"[1, 2, 3]", "application/json"), ProtocolError, ""),
    "endless nesting": (http(200, b"[" * 4000, "application/json"), ProtocolError, ""),
    "JSON that is no UTF-8": (http(200, b'{"a": "\xff"}', "application/json"), ProtocolError, ""),
    "half of a JSON": (http(200, b'{"choices": [{"mess', "application/json"), ProtocolError, ""),
    "a picture": (http(200, b"\x89PNG\r\n\x1a\n" + bytes(99), "image/png"), ProtocolError, ""),
    "an error in a success": (
        error(200, {"error": "Unexpected endpoint or method. (POST /x)"}),
        ServerError | ProtocolError,
        "",
    ),
    "an error object in a success": (
        error(200, {"error": {"message": "the GPU is on fire", "type": "server_error"}}),
        ServerError | ProtocolError,
        "",
    ),
    "a redirect": (
        http(302, b"", "text/html", "Location: http://elsewhere.invalid/login?key=KEYKEYKEY"),
        ServerError | ProtocolError,
        "",
    ),
}


@pytest.mark.parametrize("name", HTTP)
async def test_a_port_of_another_web_server(target, ground, meet, name):
    answer, kind, said = HTTP[name]
    met = await meet(target, await ground.serve(partial(reply, answer)))
    assert isinstance(met.error, kind), met.error
    assert met.events == []
    assert re.search(said, str(met.error)), met.error


OPENAI_401 = {"error": {"message": "Incorrect API key provided: KEYKEYKEY.", "code": "invalid_api_key"}}
STATUS = {
    "401": (error(401, OPENAI_401), AuthenticationFailed, "API_KEY"),
    "401 without a text": (error(401, ""), AuthenticationFailed, "API_KEY"),
    "403": (error(403, {"detail": "Bearer KEYKEYKEY lacks the permission"}), AuthenticationFailed, ""),
    "404": (
        error(404, {"error": {"message": "The model 'm' does not exist", "code": "model_not_found"}}),
        ModelNotFound,
        "",
    ),
    "404 of a route": (error(404, {"detail": "Not Found"}), ServerError | ProtocolError, "address"),
    "400": (error(400, {"error": {"message": "something is wrong with KEYKEYKEY"}}), ServerError, ""),
    "413": (error(413, {"error": "Payload Too Large"}), ServerError, ""),
    "429": (error(429, {"error": {"message": "slow down"}}, "Retry-After: 3600"), RateLimited, "3600 s"),
    "500": (error(500, {"error": {"message": "CUDA error: KEYKEYKEY"}}), ServerError, ""),
    "500 without a text": (http(500, b"", "text/plain"), ServerError, ""),
    "503": (error(503, {"error": "loading"}, "Retry-After: 3600"), ServerError | RateLimited, ""),
    "599": (http(599, b"?" * 300_000, "text/plain"), ServerError, ""),
}


@pytest.mark.parametrize("name", STATUS)
async def test_a_server_that_refuses(http_target, ground, meet, name):
    answer, kind, hint = STATUS[name]
    met = await meet(http_target, await ground.serve(partial(reply, answer)))
    assert isinstance(met.error, kind), met.error
    assert met.error.status == int(name[:3])
    assert re.search(hint, met.error.hint), met.error
    if "Retry-After" in answer.decode("latin-1"):
        assert met.error.retry_after == 3600
        assert met.error.retryable


async def test_a_server_that_is_down(target, meet, unused_tcp_port):
    where = f"127.0.0.1:{unused_tcp_port}"
    met = await meet(target, where)
    assert isinstance(met.error, ServerUnreachable), met.error
    assert where in met.error.message
    assert met.error.retryable
    assert not met.error.sent


async def test_a_host_that_does_not_exist(http_target, meet):
    met = await meet(http_target, "http://no-such-host.invalid:1234")
    assert isinstance(met.error, ServerUnreachable), met.error
    assert "no-such-host.invalid:1234" in met.error.message


async def test_a_server_that_wants_https(target, ground, meet, tls):
    """It sends an alert in TLS, or just hangs up."""
    met = await meet(target, "http://" + await ground.serve(hang_up, ssl=tls))
    assert isinstance(met.error, ServerUnreachable | ProtocolError), met.error
    assert "https" in met.error.hint


async def test_https_where_http_is_spoken(http_target, ground, meet):
    met = await meet(
        http_target, "https://" + await ground.serve(partial(speak_first, page(400, "Bad Request")))
    )
    assert isinstance(met.error, ServerUnreachable), met.error
    assert "https" in met.error.hint


async def test_https_for_the_client_that_speaks_none(sdk_target, meet):
    met = await meet(sdk_target, "https://127.0.0.1:1")
    assert isinstance(met.error, ConfigurationError), met.error
    assert "lmstudio-rest" in met.error.hint


async def test_a_certificate_that_nobody_trusts(http_target, ground, meet, tls):
    met = await meet(http_target, "https://" + await ground.serve(hang_up, ssl=tls))
    assert isinstance(met.error, ServerUnreachable), met.error
    assert "certificate" in met.error.hint


async def test_a_server_that_takes_the_request_and_says_nothing(target, ground, meet):
    """The clock can only pass: nothing ever comes."""

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass

    asked = Request(model="m", messages=[Message.user("hi")], timeouts=Timeouts(first_event=0.3, connect=0.3))
    met = await meet(target, await ground.serve(nothing), asked)
    assert isinstance(met.error, TimedOut), met.error
    assert met.error.clock in {"connect", "first_event"}
    assert "timeout" in met.error.hint


async def test_a_server_that_speaks_another_protocol_without_end(target, ground, meet):
    """As memcached does; httpx waits for the end of what it takes for headers."""

    async def error_after_error(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            writer.write(b"ERROR\r\n")
            await writer.drain()

    asked = Request(model="m", messages=[Message.user("hi")], timeouts=Timeouts(first_event=0.3, connect=0.3))
    met = await meet(target, await ground.serve(error_after_error), asked)
    assert isinstance(met.error, TimedOut | ProtocolError), met.error


@pytest.mark.parametrize("key", [None, "right form"])
async def test_a_token_that_is_refused(target, meet, make_lmstudio_emulator, key):
    from lmbridge.emulator import ApiToken

    other = "sk-lm-ZYXWVUTS:zyxwvutsrqponmlkjihg"
    emulator = await make_lmstudio_emulator(tokens=(ApiToken(other),))
    met = await meet(target, emulator.url, api_key=key and target.key)
    assert isinstance(met.error, AuthenticationFailed), met.error
    assert "API_KEY" in met.error.hint
    assert other not in str(met.error)


async def test_a_key_that_the_client_does_not_take(sdk_target, meet, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator()
    met = await meet(sdk_target, emulator.url, api_key="correct horse battery staple")
    assert isinstance(met.error, ConfigurationError), met.error
    assert "sk-lm-" in met.error.hint


async def test_a_model_that_does_not_exist(target, meet, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator()
    asked = Request(model="qwen3-4b-instrukt", messages=[Message.user("hi")])
    met = await meet(target, emulator.url, asked)
    assert isinstance(met.error, ModelNotFound), met.error
    assert met.error.model == "qwen3-4b-instrukt"
    assert "qwen/qwen3-4b" in met.error.near
    assert "'qwen/qwen3-4b'" in met.error.hint
