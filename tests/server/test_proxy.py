"""The proxy between a real client (ivm.LMM over ASGI) and a fake upstream that looks at what arrives."""

import asyncio
import json

import cv2
import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from ivm.errors import InputError, OptionError  # noqa: E402
from ivm.geometry import Transform  # noqa: E402
from ivm.lmm import image_url, messages_for  # noqa: E402
from ivm.server.app import create_app  # noqa: E402
from ivm.server.pictures import Darkroom, decode_picture  # noqa: E402
from ivm.server.proxy import PAIR_NOTE, Masking, Upstream, mask_messages  # noqa: E402

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


def ask(
    fake, masker, body, path="/v1/chat/completions", headers=None, key=None, token=None, at="https://up/v1"
):
    upstream = Upstream(at, key, transport=httpx.MockTransport(fake))
    app = create_app(masker, upstream, token=token)

    async def once():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, raise_app_exceptions=False), base_url="http://proxy"
        ) as client:
            if body is None:
                return await client.get(path, headers=headers)
            if isinstance(body, bytes):
                headers_ = {"content-type": "application/json"}
                return await client.post(path, content=body, headers=headers_)
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
    whole, masked, note, asked = sent["messages"][0]["content"]
    assert note == {"type": "text", "text": PAIR_NOTE}
    assert asked["text"] == "what is it?"
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


def test_a_stream_that_breaks_off_in_a_line_tells_so_in_another(colour_masker):
    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self):
            yield b'data: {"choices": [{"del'
            raise httpx.ReadError("gone")

    streams = {"content-type": "text/event-stream"}
    answer = ask(Fake(httpx.Response(200, stream=Broken(), headers=streams)), colour_masker, {"stream": True})
    last = answer.text.splitlines()[-2]
    assert "broke off" in json.loads(last.removeprefix("data: "))["error"]["message"]


@pytest.mark.parametrize("type_", [{}, {"type": "input_image"}])
def test_a_picture_under_another_type_is_masked_too(type_, url, colour_masker):
    content = [{**type_, "image_url": url}, {"type": "text", "text": "the red box", "image_url": None}]
    messages, found = mask_messages(
        Darkroom(colour_masker), [{"role": "user", "content": content}], Masking()
    )
    picture, text = messages[0]["content"]
    assert (picture["type"], text) == ("image_url", content[1])
    assert shows(picture, RED)
    assert not shows(picture, BLUE)
    assert found[0]["found"]


def test_whose_key_goes_where(url, colour_masker):
    body = {"messages": messages_for("red", [url])}
    mine = {"authorization": "Bearer client"}
    for key, token, headers, expected in (
        (None, None, mine, "Bearer client"),
        ("server", None, mine, "Bearer server"),
        (None, None, None, None),
        (None, "gate", {"authorization": "Bearer gate"}, None),  # the token is for the proxy alone
    ):
        fake, who = Fake(), {"headers": headers, "key": key, "token": token}
        assert ask(fake, colour_masker, body, **who).status_code == 200
        assert fake.requests[-1].headers.get("authorization") == expected
        if headers or not token:
            assert ask(fake, colour_masker, None, path="/v1/models", **who).status_code == 200
            assert fake.requests[-1].headers.get("authorization") == expected


def test_no_key_travels_in_clear(url, colour_masker):
    for at, key, words in (
        ("http://remote/v1", "sk-1", "unencrypted"),
        ("https://remote/v1", "sk-1\nx", "printable ASCII"),
        ("remote/v1", None, "base_url"),
    ):
        with pytest.raises(OptionError, match=words) as caught:
            Upstream(at, key)
        assert "sk-1" not in str(caught.value)
    assert Upstream("https://remote/v1", " sk-1\n").api_key == "sk-1"
    body, mine = {"messages": messages_for("red", [url])}, {"authorization": "Bearer client"}
    for path, sent in (("/v1/chat/completions", body), ("/v1/models", None)):
        fake = Fake()
        answer = ask(fake, colour_masker, sent, path=path, headers=mine, at="http://remote/v1")
        assert answer.status_code == 400
        assert "your key" in answer.json()["error"]["message"]
        assert "unencrypted" in answer.json()["error"]["message"]
        assert not fake.requests
        assert ask(fake, colour_masker, sent, path=path, at="http://remote/v1").status_code == 200
        odd = {"authorization": "Bearer clé".encode()}
        assert ask(fake, colour_masker, sent, path=path, headers=odd).status_code == 400
    fake = Fake()
    assert ask(fake, colour_masker, body, headers=mine, at="http://localhost:1/v1").status_code == 200
    assert fake.requests[-1].headers["authorization"] == "Bearer client"


@pytest.mark.parametrize("mode", ["overlay", "crop"])
@pytest.mark.parametrize("show", ["masked", "both", "whole"])
def test_the_transform_is_of_the_picture_that_was_sent(mode, show, colour_masker):
    image = np.full((480, 640, 3), 128, np.uint8)
    image[100:200, 300:500] = RED
    fake, ivm = Fake(), {"mode": mode, "show": show, "longest": 100}
    for text in ("the red one", "the zebra"):
        body = {"messages": messages_for(text, [image_url(image)]), "ivm": ivm}
        told = ask(fake, colour_masker, body).json()["ivm"][0]
        parts = passed(fake)["messages"][0]["content"]
        pictures = [part for part in parts if part["type"] == "image_url"]
        last = pictures[-1]
        assert (
            (PAIR_NOTE in str(parts)) == (len(pictures) == 2) == (show == "both" and not told["kept_whole"])
        )
        content = np.frombuffer(decode_picture(last["image_url"]["url"]), np.uint8)
        height, width = cv2.imdecode(content, cv2.IMREAD_COLOR).shape[:2]
        transform = Transform.from_dict(told["transform"])
        assert transform.size == (width, height)
        corners = transform.to_original([0, 0, width, height])
        if told["kept_whole"] or show == "whole" or mode == "overlay":
            np.testing.assert_allclose(corners, [0, 0, 640, 480])
        else:
            x0, y0, x1, y1 = corners
            assert x0 <= 300 < 500 <= x1 < 640
            assert y0 <= 100 < 200 <= y1 < 480


@pytest.mark.parametrize(
    ("ivm", "words"),
    [
        ({"mode": []}, "mode must be one of"),
        ({"show": {}}, "show must be one of"),
        ({"options": "abc"}, "options must be an object"),
        ({"options": {"exact": "false"}}, "but got exact"),
        ({"options": {"margin": 0.1}, "mode": "overlay"}, "no use for margin"),
        ({"options": {"threshold": float("nan")}}, "threshold"),
        ({"tiles": {}}, "tiles must be"),
        ({"tiles": 10**400}, "tiles must be"),
        ({"instruction": 5}, "must be a string"),
        ({"longest": "9"}, "longest must be"),
        ("overlay", "must be an object"),
        ({"temperature": 1}, "must be an object"),
    ],
)
def test_wrong_fields_are_named(ivm, words, url, colour_masker):
    content = json.dumps({"messages": messages_for("red", [url]), "ivm": ivm}).encode()
    answer = ask(Fake(), colour_masker, content)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_what_is_no_json_is_named(url, colour_masker):
    messages = json.dumps(messages_for("red", [url]))
    for extra in ('"temperature": NaN', '"temperature": 1e999', '"x": ' + "[" * 50_000 + "]" * 50_000):
        answer = ask(Fake(), colour_masker, f'{{"messages": {messages}, {extra}}}'.encode())
        assert answer.status_code == 400
        assert "JSON" in answer.json()["error"]["message"]


def test_tiles_are_taken_as_in_python(url, colour_masker):
    for tiles, encoded in ((2, 5), ([1, 2], 8), ("2", 13)):  # each request here has a server of its own
        body = {"messages": messages_for("red", [url]), "ivm": {"tiles": tiles}}
        assert ask(Fake(), colour_masker, body).status_code == 200
        assert len(colour_masker.backend.encoded) == encoded


def test_a_request_holds_a_bounded_number_of_pictures(url, colour_masker):
    answer = ask(Fake(), colour_masker, {"messages": messages_for("red", [url] * 33)})
    assert answer.status_code == 400
    assert "at most 32 pictures" in answer.json()["error"]["message"]


def test_an_answer_that_is_no_json_passes_as_it_came(url, colour_masker):
    plain = httpx.Response(200, content=b"hello", headers={"content-type": "text/plain"})
    answer = ask(Fake(plain), colour_masker, {"messages": messages_for("red", [url])})
    assert (answer.content, answer.headers["content-type"]) == (b"hello", "text/plain")


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
    messages[0]["content"].append({"type": "text", "text": None})  # which is not the word "None"
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


def test_the_masked_pictures_of_a_chat_are_bounded_together(url, colour_masker):
    messages = messages_for("the red box", [url] * 3)
    size = len(
        mask_messages(Darkroom(colour_masker), messages, Masking())[0][0]["content"][0]["image_url"]["url"]
    )
    mask_messages(Darkroom(colour_masker), messages, Masking(), largest=3 * size)
    with pytest.raises(InputError, match="bytes together"):
        mask_messages(Darkroom(colour_masker), messages, Masking(), largest=3 * size - 1)


def test_a_proxy_of_the_environment_sees_no_key_for_this_machine(url, colour_masker, monkeypatch):
    opened = []
    plain = httpx.AsyncClient

    def client(**options):
        opened.append(options.get("trust_env", True))
        return plain(**options)

    monkeypatch.setattr("ivm.server.proxy.httpx.AsyncClient", client)
    for at in ("http://localhost:1/v1", "https://up/v1"):
        ask(Fake(), colour_masker, None, path="/v1/models", key="secret", at=at)
    assert [trusts for trusts in opened if trusts is not True] == [False]
