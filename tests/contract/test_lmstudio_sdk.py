"""The provider ``lmstudio-sdk`` keeps the contract, in front of an emulated LM Studio."""

import re

import pytest

from lmbridge.chat import Message, Request
from lmbridge.emulator import Settings, ThreadedEmulator
from lmbridge.testing import Bench, ProviderConformance, Turn, frame
from lmbridge_lmstudio_sdk import LMStudioSDK

SEEING = "google/gemma-4-26b-a4b"


class TestLMStudioSDK(ProviderConformance):
    provider = LMStudioSDK
    name = "lmstudio-sdk"
    model = SEEING
    blind_model = "ibm/granite-4-micro"
    api_key = "sk-lm-Zk3v9Qw7:Lx2Rt8YpBn4Mc6VdHj5K"
    sdks = ("lmstudio",)
    websocket = True
    answer_route = "GET /llm"
    garbage = frame(b"{{{")

    @pytest.fixture
    def upstream(self):
        with ThreadedEmulator(Settings.instant(loaded=(SEEING,))) as emulator:
            yield emulator.url

    def request(self, turn: Turn) -> Request:
        tools = super().request(turn).tools
        text = f"[[say={''.join(turn.text)}]]"
        if turn.reasoning:
            text += f"[[think={''.join(turn.reasoning)}]]"
        text += "".join(f"[[tool={call.name} {call.arguments}]]" for call in turn.tool_calls)
        return Request(model=self.model, messages=(Message.user(text),), tools=tools)

    def after(self, text: str) -> re.Pattern[bytes]:
        return re.compile(re.escape(text.strip().encode()))

    async def stopped(self, bench: Bench) -> None:
        """The socket stays open for other calls: a message cancels the prediction."""

        def is_told() -> bool:
            asked = bench.answers()[-1]
            return asked.left or any('"cancel"' in str(message) for message in asked.messages)

        await bench.server.until(is_told, self.patience)
