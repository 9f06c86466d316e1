"""The proxy between a real client (ivm.LMM over ASGI) and a fake upstream that looks at what arrives."""

import asyncio
import json

import cv2
import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from ivm.errors import InputError, OptionError  # noqa: E402
from ivm.lmm import image_url, messages_for  # noqa: E402
from ivm.server.app import create_app  # noqa: E402
from ivm.server.pictures import Darkroom, decode_picture  # noqa: E402
from ivm.server.proxy import Masking, Upstream, mask_messages  # noqa: E402

RED, BLUE = (220, 30, 30), (40, 60, 220)


@pytest.fixture
def url():
    image = np.full((240, 320, 3), 128, np.uint8)
    image[40:120, 20:100] = RED
    image[140:220, 220:300] = BLUE
    return image_url(image)


def shows(part, rgb):
    content = np.frombuffer(decode_picture(part["image_url"]["url"]), np.uint8)
    pixels = cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(int)
    return bool((np.abs(pixels - rgb).max(axis=2) < 60).mean() > 0.01)


class Fake:
    def __init__(self, answer=None):
        self.requests, self.answer = [], answer

    def __call__(self, request):
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        if request.url.path.endswith("/models"):
            return httpx.Response(200, json={"data": [{"id": "fake"}]})
        if json.loads(request.content).get("stream"):
            lines = 'data: {"choices": [{"delta": {"content": "hi"}}]}\n\ndata: [DONE]\n\n'
            return httpx.Response(200, content=lines, headers={"content-type": "text/event-stream"})
        return httpx.Response(200, json={"choices": [{"message": {"content": "hello"}}]})


def ask(fake, masker, body, path="/v1/chat/completions", headers=None, key=None, token=None):
    upstream = Upstream("http://up/v1", key, transport=httpx.MockTransport(fake))
    app = create_app(masker, upstream, token=token)

    async def once():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, raise_app_exceptions=False), base_url="http://proxy"
        ) as client:
            if body is None:
                return await client.get(path, headers=headers)
            return await client.post(path, json=body, headers=headers)

    return asyncio.run(once())


def passed(fake):
    return json.loads(fake.requests[-1].content)


def test_pictures_are_masked_by_the_question_and_all_else_passes(url, colour_masker):
    fake = Fake()
    body = {
        "model": "fake",
        "temperature": 0.5,
        "messages": messages_for("the red square", [url], system="S"),
    }
    answer = ask(fake, colour_masker, body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
    assert answer.json()["ivm"][0]["found"] is True
    assert answer.headers["x-ivm-found"] == "true"
    sent = passed(fake)
    assert (sent["model"], sent["temperature"]) == ("fake", 0.5)
    assert sent["messages"][0] == {"role": "system", "content": "S"}
    picture, text = sent["messages"][1]["content"]
    assert text == {"type": "text", "text": "the red square"}
    assert shows(picture, RED)
    assert not shows(picture, BLUE)


def test_a_follow_up_masks_the_earlier_picture_anew(url, colour_masker):
    fake = Fake()
    messages = [
        *messages_for("the red square", [url]),
        {"role": "assistant", "content": "It is red."},
        {"role": "user", "content": "and the blue one?"},
    ]
    ask(fake, colour_masker, {"messages": messages})
    picture = passed(fake)["messages"][0]["content"][0]
    assert shows(picture, BLUE)
    assert not shows(picture, RED)
    assert len(colour_masker.backend.encoded) == 1


def test_a_request_may_say_how(url, colour_masker):
    fake = Fake()
    ivm = {"show": "both", "mode": "overlay", "instruction": "blue", "options": {"colour": "black"}}
    ask(fake, colour_masker, {"messages": messages_for("what is it?", [url]), "ivm": ivm})
    sent = passed(fake)
    assert "ivm" not in sent
    whole, masked, _ = sent["messages"][0]["content"]
    assert shows(whole, RED)
    assert shows(masked, BLUE)
    assert not shows(masked, RED)
    assert shows(masked, (0, 0, 0))
    refused = ask(fake, colour_masker, {"messages": messages_for("x", [url]), "ivm": {"mood": 1}})
    assert refused.status_code == 400
    assert "mood" in refused.json()["error"]["message"]


def test_text_alone_passes_untouched(colour_masker):
    fake = Fake()
    messages = [{"role": "user", "content": "hello"}]
    assert ask(fake, colour_masker, {"messages": messages}).json()["ivm"] == []
    assert passed(fake)["messages"] == messages
    assert colour_masker.backend.encoded == []


def test_streams_stay_streams(url, colour_masker):
    answer = ask(Fake(), colour_masker, {"messages": messages_for("red", [url]), "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert answer.headers["x-ivm-found"] == "true"


def test_whose_key_goes_where(url, colour_masker):
    body = {"messages": messages_for("red", [url])}
    mine = {"authorization": "Bearer client"}
    for key, token, headers, expected in (
        (None, None, mine, "Bearer client"),
        ("server", None, mine, "Bearer server"),
        (None, None, None, None),
        (None, "gate", {"authorization": "Bearer gate"}, None),  # the token is for the proxy alone
    ):
        fake = Fake()
        assert ask(fake, colour_masker, body, headers=headers, key=key, token=token).status_code == 200
        assert fake.requests[-1].headers.get("authorization") == expected


def test_the_upstreams_refusals_pass_and_its_absence_is_told(url, colour_masker):
    body = {"messages": messages_for("red", [url])}
    busy = httpx.Response(429, json={"error": {"message": "slow down"}}, headers={"retry-after": "7"})
    answer = ask(Fake(busy), colour_masker, body)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json() == {"error": {"message": "slow down"}}
    answer = ask(Fake(httpx.ConnectError("refused")), colour_masker, body)
    assert answer.status_code == 502
    assert "is it running?" in answer.json()["error"]["message"]
    assert ask(Fake(), colour_masker, None, path="/v1/models").json() == {"data": [{"id": "fake"}]}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ("hi", "list of objects"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 3}}]}], "must hold a url"),
        (messages_for("red", ["https://example.org/a.jpg"]), "fetches nothing"),
    ],
)
def test_wrong_messages_are_named(messages, words, colour_masker):
    with pytest.raises(InputError, match=words):
        mask_messages(Darkroom(colour_masker), messages, Masking())


def test_a_picture_without_a_question_is_refused(url, colour_masker):
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    with pytest.raises(InputError, match="without a question"):
        mask_messages(Darkroom(colour_masker), messages, Masking())
    with pytest.raises(OptionError, match="show must be"):
        Masking(show="all")


def test_without_an_upstream_there_is_no_proxy(url, colour_masker):
    async def once():
        app = create_app(colour_masker)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://p") as client:
            return await client.post("/v1/chat/completions", json={"messages": messages_for("red", [url])})

    answer = asyncio.run(once())
    assert answer.status_code == 400
    assert "--upstream" in answer.json()["error"]["message"]
