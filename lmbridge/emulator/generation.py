"""The engine: one prediction, from waiting for its model to its last token, in a task of its own."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import engine_errors, errors, events, tokens
from lmbridge.emulator.acquisition import Acquisition
from lmbridge.emulator.aio import Pipe
from lmbridge.emulator.composer import Question, Step, compose
from lmbridge.emulator.conversation import PICTURE_TOKENS, ToolCall, Turn, prompt_tokens, without_pictures
from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.events import Done, EngineEvent, Token
from lmbridge.emulator.job import Job, Summary

if TYPE_CHECKING:
    from lmbridge.emulator.core import Core
    from lmbridge.emulator.instances import Instance
    from lmbridge.emulator.journal import RequestRecord
    from lmbridge.emulator.mcp import Integration

logger = logging.getLogger(__name__)

MAX_ROUNDS = 20
"""Rounds of tools that the server runs itself within one request."""


class _Stopped(Exception):
    """The prediction ends here, in good order."""


class Generation:
    """One prediction and its events.

    It works in its own task, a few tokens ahead of its reader at most, so that a reader that stops reading
    stops the work as a full socket does. The last event is always `Done`.

    Args:
        core: the emulator.
        job: what to predict.
        record: where the progress is noted.
    """

    def __init__(self, core: Core, job: Job, record: RequestRecord) -> None:
        self._core = core
        self._job = job
        self._record = record
        self._settings = core.settings
        self._turns = job.turns if job.model.vision else without_pictures(job.turns)
        self._pipe: Pipe[EngineEvent] = Pipe()
        self._summary = Summary()
        self._stop_reason: str | None = None
        self._in_prompt = False
        self._started = False
        self._ended = False
        self._began = core.clock.now()
        self._first: float | None = None
        self._task = core.tasks.spawn(self._run(), f"prediction {record.number}")

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> EngineEvent:
        if self._ended:
            raise StopAsyncIteration
        event = await self._pipe.receive()
        self._ended = isinstance(event, Done)
        return event

    def stop(self, reason: str) -> None:
        """End soon: `cancelled`, `disconnected`, `unloaded`, `evicted`, `expired` or `crashed`."""
        if self._stop_reason is not None or self._task.done():
            return
        self._stop_reason = reason
        by_client = reason in ("cancelled", "disconnected", "socket closed")
        reads_on = by_client and self._in_prompt and self._settings.finish_prompt_on_cancel
        # A task that is cancelled before its first step would never tell its reader of the end.
        if self._started and not reads_on:
            self._task.cancel()

    def abandon(self, reason: str) -> None:
        """End soon; nobody reads the events any more."""
        self._pipe.close()
        self.stop(reason)

    async def _run(self) -> None:
        error: EmulatedError | None = None
        drop = False
        self._started = True
        try:
            if self._stop_reason is None:
                await self._work()
        except _Stopped:
            pass
        except ConnectionAbortedError:
            drop = True
        except EmulatedError as problem:
            error = problem
        except asyncio.CancelledError:
            if self._stop_reason is None:
                raise
        except Exception:  # whatever it is, the reader must not wait for ever
            logger.exception("a prediction failed")
            error = EmulatedError("Internal error of the emulator.", status=500, native_type="internal_error")
        self._finish(error, drop=drop)

    def _finish(self, error: EmulatedError | None, *, drop: bool) -> None:
        summary, now = self._summary, self._core.clock.now()
        if self._first is not None:
            summary.first_token_seconds = self._first - self._began
            summary.seconds = now - self._first
        reason = self._stop_reason
        if reason in ("unloaded", "evicted", "expired"):
            summary.stop_reason = "modelUnloaded"
        elif reason == "crashed":
            error = error or errors.crashed()
        elif reason is not None:
            summary.stop_reason = "userStopped"
        summary.text = "".join(item["content"] for item in summary.output if item["type"] == "message")
        summary.reasoning = "".join(item["content"] for item in summary.output if item["type"] == "reasoning")
        self._note(error, reason, drop=drop)
        self._pipe.push(Done(summary, error, drop))

    def _note(self, error: EmulatedError | None, reason: str | None, *, drop: bool) -> None:
        record = self._record
        record.stop_reason = self._summary.stop_reason
        if drop:
            record.end("failed", "connection dropped")
        elif error is not None:
            record.end("failed", error.message)
        elif reason is not None:
            record.end("cancelled", reason)

    # The phases

    async def _work(self) -> None:
        self._record.model = self._job.model.key
        acquiring = Acquisition(self._core, self._job, self._record, self._emit)
        instance = await acquiring.instance()
        self._summary.load_seconds = acquiring.load_seconds
        self._summary.instance = instance
        instance.running.add(self)
        self._core.instances.touch(instance)
        try:
            self._record.enter("queued")
            self._check_queue(instance)
            await self._core.gates.checkpoint("queued", 0, instance.model.key)
            async with instance.slots, self._eyes(instance):
                with instance.at_work():
                    self._check_parallel(instance)
                    await self._rounds(instance)
        finally:
            instance.running.discard(self)
            self._core.instances.touch(instance)

    def _eyes(self, instance: Instance) -> AbstractAsyncContextManager[None]:
        stalls = self._settings.vision_stalls and self._job.sights
        return instance.eyes if stalls else nullcontext()

    def _check_queue(self, instance: Instance) -> None:
        limit = self._settings.queue_limit
        waiting = len(instance.running) - instance.busy - 1
        if limit is not None and instance.slots.locked() and waiting >= limit:
            raise engine_errors.queue_full(instance.model.key)

    def _check_parallel(self, instance: Instance) -> None:
        if self._settings.crash_in_parallel and instance.busy > 1:
            self._crash(instance)

    async def _rounds(self, instance: Instance) -> None:
        turns = self._turns
        for round_number in range(MAX_ROUNDS):
            await self._read_prompt(instance, turns, first=round_number == 0)
            calls = await self._answer(instance, turns)
            if not calls:
                return
            results = [await self._run_tool(instance, call, integration) for call, integration in calls]
            made = Turn("assistant", tool_calls=tuple(call for call, _ in calls))
            self._summary.turns = (*self._summary.turns, made, *results)
            if self._summary.calls:  # the client has to run its part before the model can go on
                return
            turns = (*turns, made, *results)

    async def _read_prompt(self, instance: Instance, turns: tuple[Turn, ...], *, first: bool) -> None:
        self._record.enter("prompt")
        instance.status = "processingPrompt"
        total = self._prompt_tokens(turns)
        self._summary.prompt_tokens = self._record.prompt_tokens = total
        if total >= instance.context_length:
            raise errors.overflow(self._settings.overflow_text, total, instance.context_length)
        if first:
            await self._emit(events.Begins(instance, total))
            for server in self._job.integrations:
                if server.problem is not None:
                    raise server.problem
        visible = self._settings.prompt_progress and (first or self._settings.prompt_after_tool)
        self._in_prompt = True
        steps = self._settings.prompt_steps
        for step in range(steps):
            if visible:
                await self._emit(events.PromptProgress(step / steps, total))
            await self._core.gates.checkpoint("prompt", step, instance.model.key)
            await self._core.clock.sleep(self._settings.pace.prompt_step)
        self._in_prompt = False
        if self._stop_reason is not None:
            raise _Stopped
        if visible:
            await self._emit(events.PromptProgress(1.0, total))

    def _prompt_tokens(self, turns: tuple[Turn, ...]) -> int:
        if self._job.completion:
            pictures = sum(len(turn.pictures) for turn in turns)
            return sum(tokens.count(turn.text) for turn in turns) + PICTURE_TOKENS * pictures
        return prompt_tokens(turns) + self._tool_tokens()

    def _tool_tokens(self) -> int:
        """Return the length of the tools' definitions, which belong to the prompt (changelog 0.3.17)."""
        offered = (*self._job.tools, *(tool for server in self._job.integrations for tool in server.tools))
        return sum(tokens.count(f"{tool.name} {tool.description} {tool.parameters}") for tool in offered)

    async def _answer(
        self, instance: Instance, turns: tuple[Turn, ...]
    ) -> list[tuple[ToolCall, Integration | None]]:
        """Generate one round; return the calls that the server has to run itself."""
        job = self._job
        instance.status = "generating"
        offered = tuple(tool for server in job.integrations for tool in server.tools)
        question = Question(
            turns=turns,
            sights=job.sights if job.model.vision else [],
            options=job.options,
            seed=job.seed,
            effort=self._effort(),
            schema=job.schema,
            grammar=job.grammar,
            tools=job.tools + offered,
            tool_choice=job.tool_choice,
            completion=job.completion,
        )
        steps = compose(question)
        if self._settings.json_in_reasoning and job.schema is not None and self._effort() != "off":
            steps = [Step("reasoning", steps[-1].text)]
        own: list[tuple[ToolCall, Integration | None]] = []
        for step in steps:
            if step.kind == "call" and step.call is not None:
                server = self._server_of(step.call)
                if step.problem == "invalid_format" and job.instance is None:
                    await self._say(instance, Step("message", f"{step.call.name}({step.text})"))
                elif server is not None or (job.integrations and not job.tools):
                    own.append((step.call, server))
                else:
                    await self._call(instance, step)
            else:
                await self._say(instance, step)
        if self._summary.calls:
            self._summary.stop_reason = "toolCalls"
        return own

    def _effort(self) -> str:
        """Return how much to think; some models cannot be told to stop."""
        job = self._job
        stuck = self._settings.thinking_stuck and job.effort == "off" and job.model.reasoning
        return job.model.reasoning_default if stuck else job.effort

    def _server_of(self, call: ToolCall) -> Integration | None:
        servers = self._job.integrations
        return next((s for s in servers if any(tool.name == call.name for tool in s.tools)), None)

    async def _say(self, instance: Instance, step: Step) -> None:
        reasoning = step.kind == "reasoning"
        kind: Any = "reasoning" if reasoning else "message"
        phase: Any = "reasoning" if reasoning else "answering"
        self._record.enter(phase)
        text, stopped_by = (step.text, None) if reasoning else self._until_stop(step.text)
        item: dict[str, Any] = {"type": kind, "content": ""}
        self._summary.output.append(item)
        if reasoning:
            await self._token(instance, phase, 0, Token("reasoning_start", "<think>"))
        for index, piece in enumerate(tokens.pieces(text)):
            await self._token(instance, phase, index, Token(kind, piece, first=index == 0), item)
        if reasoning:
            await self._token(instance, phase, 0, Token("reasoning_end", "</think>"))
        await self._emit(events.PieceEnds(kind))
        if stopped_by is not None:
            self._summary.stop_reason, self._summary.stop_string = "stopStringFound", stopped_by
            raise _Stopped

    def _until_stop(self, text: str) -> tuple[str, str | None]:
        found = [(text.find(stop), stop) for stop in self._job.stop if stop and stop in text]
        if not found:
            return text, None
        position, stop = min(found)
        return text[:position], stop

    async def _token(
        self, instance: Instance, phase: Any, index: int, token: Token, item: dict[str, Any] | None = None
    ) -> None:
        """Generate one token, unless a limit has been reached."""
        await self._room(instance)
        await self._core.gates.checkpoint(phase, index, instance.model.key)
        await self._core.clock.sleep(self._settings.pace.token)
        self._first = self._core.clock.now() if self._first is None else self._first
        self._summary.output_tokens += 1
        if token.kind.startswith("reasoning"):
            self._summary.reasoning_tokens += 1
        if item is not None:
            item["content"] += token.text
        if token.kind == "message":
            self._record.text += token.text
        self._record.tokens = self._summary.output_tokens
        self._record.note()
        await self._emit(token)

    async def _room(self, instance: Instance) -> None:
        made, settings = self._summary.output_tokens, self._settings
        if settings.crash_after_tokens is not None and made >= settings.crash_after_tokens:
            self._crash(instance)
        if settings.drop_after_tokens is not None and made >= settings.drop_after_tokens:
            raise ConnectionAbortedError
        if self._job.max_tokens is not None and made >= self._job.max_tokens:
            self._summary.stop_reason = "maxPredictedTokensReached"
        elif self._job.stop_at_context and self._summary.prompt_tokens + made >= instance.context_length:
            self._summary.stop_reason = "contextLengthReached"
        else:
            return
        raise _Stopped

    def _crash(self, instance: Instance) -> None:
        instance.running.discard(self)
        self._core.instances.crash(instance)
        raise errors.crashed()

    async def _call(self, instance: Instance, step: Step) -> None:
        """Generate a call of one of the client's tools."""
        call = step.call
        if call is None:
            raise RuntimeError("a call step has a call")
        index = len(self._summary.calls)
        self._record.enter("answering")
        await self._emit(events.CallBegins(index, call))
        for number, piece in enumerate(tokens.pieces(step.text or call.arguments_json())):
            await self._token(instance, "answering", number, Token("structure", piece))
            await self._emit(events.CallArguments(index, piece))
        await self._emit(events.CallEnds(index, call, step.problem))
        # One that was not offered is the client's to refuse, too.
        if step.problem != "invalid_format":
            self._summary.calls.append(call)

    async def _run_tool(self, instance: Instance, call: ToolCall, server: Integration | None) -> Turn:
        """Run a tool on its server, or tell the model why that cannot be done."""
        self._record.enter("tool")
        if server is None:
            reason = f"Cannot find tool with name {call.name}."
            return await self._invalid(call, reason, {"type": "invalid_name", "tool_name": call.name})
        base = {"tool": call.name, "provider_info": server.provider}
        await self._emit(events.ServerTool("start", base, server.label))
        for number, piece in enumerate(tokens.pieces(call.arguments_json())):
            await self._token(instance, "tool", number, Token("structure", piece))
        full = {"tool": call.name, "arguments": call.arguments, "provider_info": server.provider}
        await self._emit(events.ServerTool("arguments", full, server.label))
        problem = server.refusal(call)
        if problem is not None:
            named: dict[str, Any] = {"type": "invalid_arguments", "tool_name": call.name}
            about = {"arguments": call.arguments, "provider_info": server.provider}
            return await self._invalid(call, problem, named | about)
        await self._core.clock.sleep(self._settings.pace.tool)
        output = server.run(call)
        item = {**full, "output": output}
        self._summary.output.append({"type": "tool_call", **item})
        await self._emit(events.ServerTool("success", item, server.label))
        return Turn("tool", output, tool_call_id=call.id)

    async def _invalid(self, call: ToolCall, reason: str, metadata: dict[str, Any]) -> Turn:
        item = {"reason": reason, "metadata": metadata}
        self._summary.output.append({"type": "invalid_tool_call", **item})
        await self._emit(events.ServerTool("failure", item))
        return Turn("tool", reason, tool_call_id=call.id)

    async def _emit(self, event: EngineEvent) -> None:
        await self._pipe.send(event)
