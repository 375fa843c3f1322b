"""Pictures that are refused, shrunk, sent as pixels, or stall each other."""

import asyncio
import base64
import io

import numpy as np
import pytest
from PIL import Image as Pillow

import lmbridge
from lmbridge import Message, Options

SEER, GRANITE = "qwen3-vl-4b", "ibm/granite-4-micro"


def picture(width: int, height: int, form: str = "PNG", color: str = "red") -> bytes:
    target = io.BytesIO()
    Pillow.new("RGB", (width, height), color).save(target, form)
    return target.getvalue()


def look(*images, text="What is this?"):
    return [Message.user(text, images=list(images))]


async def test_webp_is_refused_as_if_it_were_no_base64(make_stand, via):
    """Many builds refuse WebP with "'url' field must be a base64 encoded image".

    Source: lmstudio-bug-tracker#1752, #1027; RooCode#8827.
    """
    stand = await make_stand(webp_refused=True)
    result = await stand.ask(via, look(picture(40, 30, "WEBP")), model=SEER)
    assert "40x30" in result.text


async def test_a_picture_of_more_than_5120_squared_pixels_is_a_400(make_stand, via):
    """On Windows a picture of more than 26,214,400 pixels is refused before it is made smaller.

    Source: lmstudio-bug-tracker#2003.
    """
    stand = await make_stand(pixel_limit=5120 * 5120)
    result = await stand.ask(via, look(picture(6000, 5000)), model=SEER)
    assert "Picture 1 is" in result.text
    width, height = result.text.split("Picture 1 is ")[1].split(" ")[0].split("x")
    assert int(width) * int(height) <= 5120 * 5120
    assert abs(int(width) / int(height) - 6 / 5) < 0.01


async def test_an_address_is_no_picture(make_stand):
    """http addresses and file paths in a request are refused by the server, or read from the wrong machine.

    Source: lmstudio-bug-tracker#1120.
    """
    with pytest.raises(lmbridge.LMBridgeError) as caught:
        look("http://127.0.0.1:9/cat.png")
    assert caught.value.hint


async def test_a_data_url_is_a_path_for_the_sdk(make_stand, via):
    """A text given to the SDK's ``prepare_image`` is a path, also if it is a data URL.

    Source: lmstudio-python (prepare_image, LMStudioOSError).
    """
    stand = await make_stand()
    url = "data:image/png;base64," + base64.b64encode(picture(40, 30)).decode()
    assert "40x30" in (await stand.ask(via, look(url), model=SEER)).text


async def test_an_array_would_be_uploaded_as_raw_pixels(make_stand, via):
    """The SDK takes any buffer for a file, an array of pixels too.

    Source: lmstudio-python (prepare_image).
    """
    stand = await make_stand()
    pixels = np.zeros((30, 40, 3), dtype=np.float32)
    assert "40x30" in (await stand.ask(via, look(pixels), model=SEER)).text


async def test_a_handle_of_a_picture_dies_with_its_client(make_stand):
    """Files that were uploaded belong to one client of the SDK and are gone with its socket.

    Source: lmstudio-python (FileHandle); lmstudio-js (temporary files of a client).
    """
    stand = await make_stand()
    messages = look(picture(40, 30))
    assert "40x30" in (await stand.ask("sdk", messages, model=SEER)).text
    stand.emulator.drop_sockets()
    assert "40x30" in (await stand.ask("sdk", messages, model=SEER)).text


async def test_a_picture_for_a_model_that_cannot_see(make_stand, via):
    """The server fails in words of its own, or answers as if there were no picture.

    Source: lmstudio-bug-tracker#1755.
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.UnsupportedFeature, match="images"):
        await stand.ask(via, look(picture(8, 8)), model=GRANITE)
    assert not stand.predictions


async def test_a_picture_of_several_megabytes_in_one_frame(make_stand, via):
    """The SDK uploads a picture as one websocket frame of base64, larger than many servers' limit.

    Source: lmstudio-python (uploadFileBase64).
    """
    stand = await make_stand(fields={"image_format": "png"})
    noise = np.random.default_rng(1).integers(0, 256, (1300, 1300, 3), dtype=np.uint8)
    result = await stand.ask(via, look(noise), model=SEER)
    assert "1300x1300" in result.text


async def test_pictures_at_the_same_time_stall_each_other(make_stand, via):
    """Concurrent vision requests block each other in the server, up to a standstill.

    Source: lmstudio-bug-tracker#1654, #1487.
    """
    stand = await make_stand(loaded=(SEER,))
    gate = stand.emulator.gates.hold("answering")
    first = asyncio.ensure_future(stand.ask(via, look(picture(8, 8)), model=SEER))
    await gate.reached()
    queued = asyncio.Event()

    async def second() -> str:
        request = lmbridge.Request(model=SEER, messages=look(picture(9, 9)))
        text = ""
        async with stand.bridge.stream(via, request) as events:
            async for event in events:
                if event == lmbridge.Progress("queued"):
                    queued.set()
                text += event.text if isinstance(event, lmbridge.TextDelta) else ""
        return text

    later = asyncio.ensure_future(second())
    async with asyncio.timeout(20):
        await queued.wait()
    assert len(stand.predictions) == 1
    gate.release()
    assert "8x8" in (await first).text
    assert "9x9" in await later


async def test_the_server_makes_pictures_smaller_than_was_sent(make_stand):
    """Whatever is sent, LM Studio shrinks it to 1024 pixels (500 before 0.3.31) unless it is told otherwise.

    Source: lmstudio-bug-tracker#990, #880, #967, #941; lmstudio-js (userMaxImageDimensionPixels).
    """
    stand = await make_stand()
    key = "llm.prediction.vision.userMaxImageDimensionPixels"
    options = Options(extra={key: {"checked": True, "value": 2048}})
    await stand.ask("sdk", look(picture(40, 30)), model=SEER, options=options)
    layers = stand.predictions[-1].body["predictionConfigStack"]["layers"]
    sent = {field["key"]: field["value"] for layer in layers for field in layer["config"]["fields"]}
    assert sent[key] == {"checked": True, "value": 2048}
