"""A fake LMM decodes the pictures it is sent and answers by what it sees: how they are masked matters."""

from __future__ import annotations

import base64
import json
import socket
import traceback
from importlib.util import find_spec

import cv2
import numpy as np
import pytest

from ivm.errors import ImageError, InstructionError, LMMError, OptionError
from ivm.lmm import LMM, SHOW, MaskedChat, image_url, messages_for

httpx = pytest.importorskip("httpx")

COLOURS = {"red": (220, 30, 30), "blue": (40, 60, 220)}
URL = "http://localhost:1/v1"


def seen(url: str) -> np.ndarray:
    """The picture in a data URL: uint8 [H, W, 3] RGB or [H, W, 4]."""
    head, _, content = url.partition(",")
    assert head in ("data:image/jpeg;base64", "data:image/png;base64")
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


class Server:
    """Names the colours that cover more than a hundredth of the last picture; keeps every request."""

    def __init__(self, *failures):
        self.failures, self.requests = list(failures), []

    def __call__(self, request):
        self.requests.append(request)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        body = json.loads(request.content)
        pictures = [
            part["image_url"]["url"]
            for part in body["messages"][-1]["content"]
            if part["type"] == "image_url"
        ]
        pixels = seen(pictures[-1]).astype(int)
        names = [n for n, rgb in COLOURS.items() if (np.abs(pixels - rgb).max(axis=2) < 60).mean() > 0.01]
        words = ["I", " see ", " and ".join(names) or "nothing"]
        if body.get("stream"):
            lines = [f"data: {json.dumps({'choices': [{'delta': {'content': w}}]})}\n\n" for w in words]
            return httpx.Response(200, content="".join([": hello\n\n", *lines, "data: [DONE]\n\n"]))
        choice = {"message": {"role": "assistant", "content": "".join(words)}, "finish_reason": "stop"}
        return httpx.Response(
            200, json={"choices": [choice], "model": "fake-1", "usage": {"prompt_tokens": 7}}
        )


@pytest.fixture
def server():
    return Server()


def client(server, **options):
    return LMM("fake", URL, transport=httpx.MockTransport(server), **options)


@pytest.fixture
def two():
    """A red and a blue square on grey, far apart."""
    image = np.full((240, 320, 3), 128, np.uint8)
    image[40:120, 20:100] = COLOURS["red"]
    image[140:220, 220:300] = COLOURS["blue"]
    return image


def contents(server):
    return [json.loads(request.content)["messages"] for request in server.requests]


def test_masking_decides_what_is_answered(server, two, colour_masker):
    chat = MaskedChat(client(server), colour_masker, two)
    turn = chat.ask("what is at the red square?")
    assert turn.reply.text == "I see red"
    assert (turn.reply.model, turn.reply.finish_reason, turn.reply.usage) == (
        "fake-1",
        "stop",
        {"prompt_tokens": 7},
    )
    assert chat.ask("and the blue one?").reply.text == "I see blue"
    assert (
        MaskedChat(client(server), colour_masker, two, show="whole").ask("red").reply.text
        == "I see red and blue"
    )
    assert turn.rendered.image.shape[1] < 320  # the default crops
    x, y = turn.rendered.transform.to_original(
        [(turn.rendered.image.shape[1] / 2, turn.rendered.image.shape[0] / 2)]
    )[0]
    assert abs(x - 60) < 12
    assert abs(y - 80) < 12


def test_a_conversation_keeps_its_words_and_encodes_its_picture_once(server, two, colour_masker):
    chat = MaskedChat(client(server), colour_masker, two, system="Be brief.")
    chat.ask("the red square")
    chat.ask("the blue square")
    assert len(colour_masker.backend.encoded) == 1
    first, second = contents(server)
    assert [m["role"] for m in first] == ["system", "user"]
    assert [m["role"] for m in second] == ["system", "user", "assistant", "user"]
    assert second[1]["content"] == "the red square"  # earlier pictures are not sent again
    assert second[2]["content"] == "I see red"
    assert [t.instruction for t in chat.turns] == ["the red square", "the blue square"]


def test_both_pictures_are_sent_whole_one_first_unless_nothing_was_removed(server, two, colour_masker):
    chat = MaskedChat(client(server), colour_masker, two, show="both", mode="overlay")
    chat.ask("the red square")
    parts = contents(server)[0][-1]["content"]
    whole, masked = (seen(p["image_url"]["url"]) for p in parts if p["type"] == "image_url")
    assert np.abs(whole[180, 260].astype(int) - COLOURS["blue"]).max() < 30
    assert masked[180, 260].min() > 240
    assert "whole" in parts[2]["text"]
    chat.ask("the zebra")  # not found: kept whole, so once
    assert sum(p["type"] == "image_url" for p in contents(server)[1][-1]["content"]) == 1
    assert chat.turns[-1].rendered.kept_whole


def test_pictures_are_scaled_down_and_keep_transparency(two):
    small = seen(image_url(two, longest=160))
    assert small.shape == (120, 160, 3)
    assert seen(image_url(two, longest=4000)).shape == two.shape
    clear = np.dstack([two, np.zeros(two.shape[:2], np.uint8)])
    assert (seen(image_url(clear))[..., 3] == 0).all()


def test_answers_stream(server, two):
    pieces = list(client(server).stream(messages_for("what?", [image_url(two)])))
    assert pieces == ["I", " see ", "red and blue"]


def test_a_busy_server_is_asked_again_and_a_refusal_is_told(monkeypatch, two):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    busy = httpx.Response(429, headers={"retry-after": "3"})
    server = Server(busy, httpx.ConnectError("no route"))
    messages = messages_for("what?", [image_url(two)])
    assert client(server).complete(messages).text == "I see red and blue"
    assert waits == [3.0, 1.0]
    server = Server(*[httpx.Response(503, json={"error": {"message": "overloaded"}})] * 3)
    with pytest.raises(LMMError, match=r"503: overloaded"):
        client(server).complete(messages)
    server = Server(httpx.Response(400, json={"error": {"message": "no images, please"}}))
    with pytest.raises(LMMError, match="no images, please"):
        client(server).complete(messages)
    assert len(server.requests) == 1
    server = Server(httpx.ConnectError("refused"))
    with pytest.raises(LMMError, match=r"is the server running\?"):
        client(server, retries=0).complete(messages)
    server = Server(httpx.Response(302, headers={"location": "http://elsewhere/v1"}))
    with pytest.raises(LMMError, match="302"):
        client(server).complete(messages)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<html>", "must answer in JSON"),
        ("[]", "JSON object"),
        ('{"choices": []}', "choices"),
        ('{"choices": [{"message": {"content": null}}]}', "content is NoneType"),
        ('{"error": "boom"}', "boom"),
        ('{"choices": 3}', "choices"),
        ("[" * 100_000, "must answer in JSON"),
    ],
)
def test_answers_of_another_form_are_named(content, words, two):
    server = Server(httpx.Response(200, content=content))
    with pytest.raises(LMMError, match=words):
        client(server).complete(messages_for("what?", [image_url(two)]))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"choices": [{"message": {"content": "all of it"}}]}', ["all of it"]),  # knows no streams
        ('{\n "choices": [{"message": {"content": "all"}}]\n}\n', ["all"]),
        ('data: {"choices": null}\n\ndata: {"choices": [{"delta": {"content": "a"}}]}\n\n', ["a"]),
        ('data: {"choices": [{"delta": null}]}\n\ndata: {"choices": [], "usage": {}}\n\n', []),
    ],
)
def test_streams_of_other_forms(content, expected, two):
    server = Server(httpx.Response(200, content=content))
    assert list(client(server).stream(messages_for("what?", [image_url(two)]))) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<html>", "must answer in JSON"),
        ("", "must answer in JSON"),
        (": hello\n\n", "must answer in JSON"),
        ('{"choices": null}', "choices"),
        ('data: {"choices": [3]}\n\n', "delta"),
        ('data: {"choices": 3}\n\n', "delta"),
        ('data: {"choices": [{"delta": {"content": []}}]}\n\n', "content is list"),
        ('data: {"error": {"message": "boom"}}\n\n', "boom"),
    ],
)
def test_streams_that_cannot_be_read_are_errors(content, words, two):
    server = Server(httpx.Response(200, content=content))
    with pytest.raises(LMMError, match=words):
        list(client(server).stream(messages_for("what?", [image_url(two)])))


def test_a_broken_stream_is_an_error_of_ours(two):
    class Broken(httpx.SyncByteStream):
        def __iter__(self):
            yield b'data: {"choices": [{"delta": {"content": "half"}}]}\n\n'
            raise httpx.ReadError("gone")

    server = Server(httpx.Response(200, stream=Broken()))
    pieces = client(server).stream(messages_for("what?", [image_url(two)]))
    assert next(pieces) == "half"
    with pytest.raises(LMMError, match="broke off"):
        next(pieces)


def test_the_key_goes_to_the_server_and_nowhere_else(server, two):
    lmm = client(server, api_key="secret-1")
    lmm.complete(messages_for("what?", [image_url(two)]), temperature=0)
    assert server.requests[0].headers["authorization"] == "Bearer secret-1"
    assert json.loads(server.requests[0].content)["temperature"] == 0
    assert "secret" not in repr(lmm)
    assert str(server.requests[0].url) == "http://localhost:1/v1/chat/completions"
    with pytest.raises(OptionError, match="unencrypted") as caught:
        LMM("fake", "http://example.org/v1", api_key="secret-2")
    assert "secret-2" not in str(caught.value)
    with pytest.raises(OptionError, match="must not hold") as caught:
        LMM("fake", "https://me:secret-3@example.org/v1")
    assert "secret-3" not in str(caught.value)


def test_a_key_that_no_header_can_hold_is_never_shown(two, monkeypatch):
    assert client(Server(), api_key=" secret-1\r\n").api_key == "secret-1"
    assert client(Server(), api_key=" \n").api_key is None
    for key in ("secret-1\nX: y", "secret-1é", "secret-1\0", b"secret-1"):
        with pytest.raises(OptionError, match="printable ASCII") as caught:
            client(Server(), api_key=key)
        assert "secret" not in str(caught.value)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("asked again"))
    server = Server(httpx.LocalProtocolError("Illegal header value b'Bearer abc'"))
    with pytest.raises(LMMError, match="header") as caught:
        client(server, api_key="abc").complete(messages_for("what?", [image_url(two)]))
    assert "Bearer abc" not in "".join(traceback.format_exception(caught.value))
    assert len(server.requests) == 1


def test_a_refusal_that_breaks_off_is_an_error_of_ours(two, monkeypatch):
    class Slow(httpx.SyncByteStream):
        def __iter__(self):
            yield b"{"
            raise httpx.ReadTimeout("slow")

    monkeypatch.setattr("time.sleep", lambda _: None)
    server = Server(*[httpx.Response(500, stream=Slow()) for _ in range(3)])
    with pytest.raises(LMMError, match="ReadTimeout"):
        client(server).complete(messages_for("what?", [image_url(two)]))
    assert len(server.requests) == 3


@pytest.mark.parametrize("longest", [100, 1024])
@pytest.mark.parametrize("show", SHOW)
def test_the_transform_is_of_the_picture_that_was_sent(show, longest, server, colour_masker):
    image = np.full((480, 640, 3), 128, np.uint8)
    image[100:200, 300:500] = COLOURS["red"]
    chat = MaskedChat(client(server), colour_masker, image, show=show, longest=longest)
    for text in ("the red square", "the zebra"):
        rendered = chat.ask(text).rendered
        *_, last = (p for p in contents(server)[-1][-1]["content"] if p["type"] == "image_url")
        sent = seen(last["image_url"]["url"])
        assert sent.shape == rendered.image.shape
        assert rendered.transform.size == (sent.shape[1], sent.shape[0])
        ys, xs = np.nonzero((np.abs(sent.astype(int) - COLOURS["red"]) < 60).all(axis=2))
        if xs.size:
            box = rendered.transform.to_original([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            np.testing.assert_allclose(box, [300, 100, 500, 200], atol=8)
    assert rendered.image is not image


def test_a_picture_too_large_for_its_format_is_named():
    with pytest.raises(ImageError, match="66000x2 pixels is too large for JPEG"):
        image_url(np.zeros((2, 66_000, 3), np.uint8))


def test_wrong_options_are_refused(server, two, colour_masker):
    for url in (
        "localhost:8000",
        "ftp://a/b",
        "",
        "https://",
        "http://[::1/v1",
        "http://localhost:abc/v1",
        "http://localhost:99999/v1",
    ):
        with pytest.raises(OptionError, match="base_url"):
            LMM("fake", url)
    with pytest.raises(OptionError, match="base_url"):
        LMM("fake", "http://é..x/v1").complete([])  # which httpx alone finds wrong
    with pytest.raises(OptionError, match="model"):
        LMM("", URL)
    with pytest.raises(OptionError, match="timeout"):
        LMM("fake", URL, timeout=0)
    with pytest.raises(OptionError, match=", ".join(SHOW)):
        MaskedChat(client(server), colour_masker, two, show="none")
    for longest in (1, None, 512.5, "512"):
        with pytest.raises(OptionError, match="longest"):
            MaskedChat(client(server), colour_masker, two, longest=longest)
    for options, words in (
        ({"mode": "nonsense"}, "mode must be"),
        ({"mode": []}, "mode must be"),
        ({"sigma": 3}, "but got sigma"),
        ({"threshold": 2}, "threshold"),
        ({"exact": "false"}, "exact must be True or False"),
        ({"mode": "overlay", "margin": 0.1}, "no use for margin"),
        ({"show": {}}, "show must be"),
    ):
        with pytest.raises(OptionError, match=words):
            MaskedChat(client(server), colour_masker, two, **options)
    assert colour_masker.backend.encoded == []
    chat = MaskedChat(client(server), colour_masker, two)
    with pytest.raises(InstructionError):
        chat.ask("")
    assert chat.turns == []


def test_half_a_surrogate_pair_in_an_answer_does_not_end_the_conversation(two, colour_masker):
    cut = httpx.Response(200, content=b'{"choices": [{"message": {"content": "yes \\ud83d"}}]}')
    server = Server(cut)
    chat = MaskedChat(client(server), colour_masker, two)
    assert chat.ask("red").reply.text == "yes \ud83d"
    assert chat.ask("blue").reply.text == "I see blue"
    assert contents(server)[1][1] == {"role": "assistant", "content": "yes \ud83d"}
    assert server.requests[1].headers["content-type"] == "application/json"


def test_a_failed_question_leaves_the_conversation_as_it_was(two, colour_masker):
    server = Server(httpx.Response(400, text="no"))
    chat = MaskedChat(client(server), colour_masker, two)
    with pytest.raises(LMMError):
        chat.ask("red")
    assert chat.turns == []
    assert chat.ask("red").reply.text == "I see red"


def test_a_proxy_of_the_environment_sees_no_key_for_this_machine(two, monkeypatch):
    heard = socket.create_server(("127.0.0.1", 0))
    heard.setblocking(False)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{heard.getsockname()[1]}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    lmm = LMM("fake", URL, api_key="secret", retries=0)
    with pytest.raises(LMMError, match="does not answer"):
        lmm.complete(messages_for("what?", [image_url(two)]))
    with pytest.raises(BlockingIOError):  # nobody came
        heard.accept()
    heard.close()


@pytest.mark.skipif(find_spec("socksio") is not None, reason="httpx can speak SOCKS here")
def test_a_proxy_that_cannot_be_spoken_to_is_an_error_of_ours(two, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(LMMError, match="proxy that the environment names"):
        LMM("fake", "https://example.org/v1").complete(messages_for("what?", [image_url(two)]))
