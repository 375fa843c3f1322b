"""The provider ``openai-compat`` keeps the contract, in front of an emulated LM Studio."""

import pytest

from lmbridge.chat import Message, Request
from lmbridge.emulator import Settings, ThreadedEmulator
from lmbridge.testing import ProviderConformance, Turn
from lmbridge_openai import OpenAICompat

SEEING = "google/gemma-4-26b-a4b"


class TestOpenAICompat(ProviderConformance):
    provider = OpenAICompat
    name = "openai-compat"
    model = SEEING
    blind_model = "ibm/granite-4-micro"
    comment = b": still here\n\n"

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
