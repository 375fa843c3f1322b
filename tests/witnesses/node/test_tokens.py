"""API tokens."""

import pytest

TOKEN = "sk-lm-AbCdEfGh:0123456789abcdefghij"


@pytest.fixture
def lmstudio_emulator_settings():
    from lmbridge.emulator import Settings

    return Settings.instant(tokens=(TOKEN,))


def test_a_client_with_its_token(start, sdk, emulator):
    talk = start("greet", token=TOKEN)
    assert talk.result() == "hello"
    assert emulator.find("predict")[0].authenticated


@pytest.mark.parametrize("token", [None, "sk-lm-AbCdEfGh:0123456789aaaaaaaaaa"], ids=["none", "wrong"])
def test_a_client_without_it(start, emulator, token):
    problem = start("refused", token=token).result()
    assert "Failed to authenticate" in problem["message"]
    assert "LM Studio API token" in problem["message"]
    assert emulator.last.reason == "authentication"
