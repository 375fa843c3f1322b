"""API tokens, which LM Studio asks for since 0.4.0."""

import pytest

import lmbridge
from lmbridge.emulator import ApiToken
from lmbridge_lmstudio_rest import LMStudioREST
from lmbridge_lmstudio_sdk import LMStudioSDK
from lmbridge_openai import OpenAICompat

TOKEN = "sk-lm-ABCDEFGH:abcdefghij0123456789"
OTHER = "sk-lm-ZZZZZZZZ:zzzzzzzzzz9876543210"


async def test_a_token_is_asked_for_and_none_is_set(make_stand, via):
    """With authentication on, clients without a token fail with a 401, or a strange error of the SDK.

    Source: agustif/opencode-lmstudio#41; EBU-LMStudio#7; Zoo-Code#1392; DesktopCommanderMCP#482.
    """
    stand = await make_stand(tokens=(TOKEN,))
    with pytest.raises(lmbridge.AuthenticationFailed) as caught:
        await stand.ask(via)
    assert "API_KEY" in caught.value.hint


async def test_the_stable_sdk_takes_no_token_and_stumbles_over_a_refusal(make_stand, via):
    """lmstudio 1.5.0 has no parameter for a token and raises ``ValueError: dictionary update sequence …``.

    Source: lmstudio-python 1.5.0 (AsyncClient; authentication of the websocket).
    """
    stand = await make_stand(tokens=(TOKEN,), fields={"api_key": TOKEN})
    assert (await stand.ask(via, "[[say=let in]]")).text == "let in"


async def test_a_wrong_token_is_refused(make_stand, via):
    """A token that was revoked or mistyped is a refusal, not a missing model or a broken protocol.

    Source: LM Studio docs, core/authentication.
    """
    stand = await make_stand(tokens=(TOKEN,), fields={"api_key": OTHER})
    with pytest.raises(lmbridge.AuthenticationFailed) as caught:
        await stand.ask(via)
    assert OTHER not in repr(caught.value) + str(caught.value)
    assert OTHER[-20:] not in repr(caught.value)


async def test_a_made_up_key_is_refused_once_authentication_is_on(make_stand, via):
    """Any key works while authentication is off; ``dummy-key`` is refused as soon as it is on.

    Source: LM Studio docs, core/authentication; lmstudio-js (lmstudioAPIToken.ts).
    """
    stand = await make_stand(tokens=(TOKEN,), fields={"api_key": "dummy-key"})
    with pytest.raises((lmbridge.AuthenticationFailed, lmbridge.ConfigurationError)) as caught:
        await stand.ask(via)
    assert caught.value.hint
    assert "dummy-key" not in str(caught.value)


@pytest.mark.parametrize("variable", ["LM_API_TOKEN", "LMSTUDIO_API_TOKEN"])
async def test_the_token_has_two_names_and_belongs_to_one_address(
    make_stand, make_bridge_to, via, variable, monkeypatch
):
    """Documentation and SDK read different variables, and the SDK sends the token to any host.

    Source: lmstudio-python 1.6.0b1 (LMSTUDIO_API_TOKEN); LM Studio docs (LM_API_TOKEN).
    """
    stand = await make_stand(tokens=(TOKEN,))
    monkeypatch.setenv(variable, TOKEN)
    bridge = make_bridge_to(stand.emulator.url, environ={variable: TOKEN})
    request = lmbridge.Request(model="ibm/granite-4-micro", messages=[lmbridge.Message.user("Hello")])
    with pytest.raises(lmbridge.AuthenticationFailed):  # an address of its own: not the token's
        await bridge.generate(via, request)
    provider = {"sdk": LMStudioSDK, "rest": LMStudioREST, "compat": OpenAICompat}[via]
    name = {"sdk": "lmstudio-sdk", "rest": "lmstudio-rest", "compat": "openai-compat"}[via]
    default = (await bridge.settings()).resolve(name, provider.info)
    assert default.base_url == "http://127.0.0.1:1234"
    assert default.api_key.get_secret_value() == TOKEN


async def test_a_token_without_the_permission(make_stand):
    """A token may lack the permission to use MCP servers: 403, which is not a wrong token.

    Source: LM Studio docs, core/mcp; lmstudio-bug-tracker#1168.
    """
    token = ApiToken(TOKEN, mcp=False)
    stand = await make_stand(tokens=(token,), fields={"api_key": TOKEN})
    with pytest.raises(lmbridge.AuthenticationFailed, match="mcp/files") as caught:
        await stand.ask("rest", integrations=["mcp/files"])
    assert "permission" in caught.value.hint


async def test_an_mcp_server_that_is_dead(make_stand):
    """An integration that cannot be reached fails in the middle of a stream of status 200.

    Source: LM Studio docs, rest/streaming-events (plugin_connection_error); lmstudio-bug-tracker#1517.
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.ServerError) as caught:
        await stand.ask("rest", integrations=["mcp/dead"])
    assert "integration" in caught.value.hint
