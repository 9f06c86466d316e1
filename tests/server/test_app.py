import asyncio
import json

import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from fastapi import FastAPI  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from ivm.errors import OptionError  # noqa: E402
from ivm.lmm import image_url  # noqa: E402
from ivm.server.app import MaskRequest, create_app  # noqa: E402
from ivm.server.pictures import decode_picture  # noqa: E402
from ivm.types import Heatmap  # noqa: E402


@pytest.fixture
def url():
    image = np.full((120, 160, 3), 128, np.uint8)
    image[30:90, 20:70] = (220, 30, 30)
    return image_url(image)


def ask(app, method, path, host="localhost", **options):
    async def once():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, path, **options)

    return asyncio.run(once())


def test_one_picture_and_two_instructions(url, colour_masker):
    app = create_app(colour_masker)
    body = {"image": url, "instruction": ["the red box", "the blue box"], "rle": True, "mode": "crop"}
    answer = ask(app, "POST", "/v1/mask", json=body)
    assert answer.status_code == 200, answer.text
    red, blue = answer.json()["results"]
    assert (red["found"], blue["found"]) == (True, False)
    assert blue["kept_whole"]
    assert red["rle"]["size"] == [120, 160]
    assert len(decode_picture(red["picture"])) > 300
    assert red["instruction"] == "the red box"
    assert len(colour_masker.backend.encoded) == 1


def test_the_page_and_health_are_there(colour_masker):
    app = create_app(colour_masker)
    page = ask(app, "GET", "/")
    assert "text/html" in page.headers["content-type"]
    assert "v1/mask" in page.text
    known = ask(app, "GET", "/health").json()
    assert known["model"] == "colours"
    assert "overlay+crop" in known["modes"]
    assert known["upstream"] is None
    assert "/v1/mask" in ask(app, "GET", "/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"image": "https://example.org/a.jpg"}, 400, "fetches nothing"),
        ({"image": "data:image/png;base64,AAAA"}, 400, "image"),
        ({"instruction": ""}, 400, "must contain text"),
        ({"instruction": []}, 400, "at least one"),
        ({"mode": "overlai"}, 400, "overlay"),
        ({"tiles": "x"}, 400, "tiles must be"),
        ({"options": {"threshold": 2}}, 400, "threshold"),
        ({"options": {"sigma": 2}}, 400, "sigma"),
        ({"nonsense": 1}, 400, "nonsense"),
        ({"instruction": ["red"] * 33}, 400, "at most 32 instructions"),
        ({"options": "abc"}, 400, "options"),
        ({"options": {"exact": True}}, 400, "exact"),
        ({"options": {"threshold": 10**400}}, 400, "threshold"),
        ({"options": {"longest": 20_000}}, 400, "longest must be at most 5000"),
        ({"tiles": True}, 400, "tiles"),
        ({"tiles": "9" * 5000}, 400, "tiles must be"),
        ({"tiles": [2, 3, 4]}, 400, "tiles must be"),
    ],
)
def test_bad_requests_are_one_sentence(url, colour_masker, change, status, words):
    app = create_app(colour_masker)
    answer = ask(app, "POST", "/v1/mask", json={"image": url, "instruction": "red", **change})
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_a_fault_of_ours_is_no_traceback_for_the_client(url, colour_masker, monkeypatch):
    def broken(*_: object) -> Heatmap:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(type(colour_masker), "__call__", broken)
    answer = ask(create_app(colour_masker), "POST", "/v1/mask", json={"image": url, "instruction": "red"})
    assert answer.status_code == 500
    assert "secret detail" not in answer.text


def test_every_error_has_openais_form(url, colour_masker, monkeypatch):
    app, headers = create_app(colour_masker), {"content-type": "application/json"}
    deep = b'{"image": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    for method, path, content, status in (
        ("POST", "/v1/mask", deep, 400),
        ("POST", "/v1/mask", b"{", 400),
        ("GET", "/v1/mask", None, 405),
        ("GET", "/v1/nothing", None, 404),
    ):
        answer = ask(app, method, path, content=content, headers=headers)
        assert answer.status_code == status
        assert answer.json()["error"]["message"]
    monkeypatch.setattr(type(colour_masker), "__call__", lambda *_: 1 / 0)
    answer = ask(app, "POST", "/v1/mask", json={"image": url, "instruction": "red"})
    assert answer.status_code == 500
    assert "log" in answer.json()["error"]["message"]
    long = ask(app, "POST", "/v1/mask", json={"image": url, "instruction": "red", "mode": "x" * 100_000})
    assert len(long.content) < 2000


def test_large_pictures_are_refused(colour_masker):
    url = image_url(np.zeros((100, 150, 3), np.uint8))
    app = create_app(colour_masker, max_pixels=10_000)
    answer = ask(app, "POST", "/v1/mask", json={"image": url, "instruction": "red"})
    assert answer.status_code == 400
    assert "at most 10,000" in answer.json()["error"]["message"]
    tall = image_url(np.zeros((30_000, 2, 3), np.uint8))
    answer = ask(create_app(colour_masker), "POST", "/v1/mask", json={"image": tall, "instruction": "red"})
    assert "dilate may reach at most 1024 pixels" in answer.json()["error"]["message"]


def test_tiles_may_be_numbers(colour_masker):
    app, url = create_app(colour_masker), image_url(np.zeros((240, 320, 3), np.uint8))
    for tiles, encoded in ((2, 5), ([1, 2], 8), ("1x2", 8)):
        body = {"image": url, "instruction": "red", "tiles": tiles}
        assert ask(app, "POST", "/v1/mask", json=body).status_code == 200
        assert len(colour_masker.backend.encoded) == encoded


@pytest.mark.parametrize("prefix", ["/ivm", "/v1", "/v"])
def test_who_may_ask_is_checked_wherever_it_is_mounted(prefix, url, colour_masker):
    outer = FastAPI()
    outer.mount(prefix, create_app(colour_masker, token="open sesame", largest=10_000))
    body, path = {"image": url, "instruction": "red"}, f"{prefix}/v1/mask"
    right = {"authorization": "Bearer open sesame"}
    assert ask(outer, "POST", path, json=body).status_code == 401
    assert ask(outer, "GET", f"{prefix}/v1/models").status_code == 401
    assert ask(outer, "POST", path, json=body, headers=right).status_code == 200
    large = {**body, "image": url + "A" * 20_000}
    assert ask(outer, "POST", path, json=large, headers=right).status_code == 413
    form = {"content": b"{}", "headers": {**right, "content-type": "text/plain"}}
    assert ask(outer, "POST", path, **form).status_code == 400
    assert ask(outer, "GET", f"{prefix}/health").status_code == 200


def test_who_may_ask(url, colour_masker):
    body = {"image": url, "instruction": "red"}
    app = create_app(colour_masker, token="open sesame", hosts=("localhost",), largest=10_000)
    right = {"authorization": "Bearer open sesame"}
    assert ask(app, "POST", "/v1/mask", json=body).status_code == 401
    assert ask(app, "POST", "/v1/mask", json=body, headers={"authorization": "Bearer x"}).status_code == 401
    assert ask(app, "POST", "/v1/mask", json=body, headers=right).status_code == 200
    assert ask(app, "GET", "/").status_code == 200  # the page itself asks for the token
    assert ask(app, "POST", "/v1/mask", json=body, headers=right, host="evil.example").status_code == 400
    large = {**body, "image": url + "A" * 20_000}
    assert ask(app, "POST", "/v1/mask", json=large, headers=right).status_code == 413
    form = {"content": b"{}", "headers": {**right, "content-type": "text/plain"}}
    assert "application/json" in ask(app, "POST", "/v1/mask", **form).json()["error"]["message"]


def test_a_token_is_what_a_header_can_hold(url, colour_masker):
    body, right = {"image": url, "instruction": "red"}, {"authorization": "Bearer open sesame"}
    app = create_app(colour_masker, token="open sesame\n")  # as the last line of a file that holds it
    assert ask(app, "POST", "/v1/mask", json=body, headers=right).status_code == 200
    assert ask(app, "POST", "/v1/mask", json=body).status_code == 401
    for token, words in (("", "is empty"), (" \n", "is empty"), ("sésame", "printable ASCII")):
        with pytest.raises(OptionError, match=f"token must be .*{words}"):
            create_app(colour_masker, token=token)


def test_a_request_in_chunks_has_no_length_whatever_it_says(url, colour_masker):
    """HTTP holds by the chunks, so that a false length would let in any number of bytes."""
    content = json.dumps({"image": url, "instruction": "red"}).encode()
    headers = {"content-type": "application/json", "content-length": "10", "transfer-encoding": "chunked"}
    app = create_app(colour_masker, largest=1000)
    answer = ask(app, "POST", "/v1/mask", content=content, headers=headers)
    assert answer.status_code == 413
    assert "no content-length" in answer.json()["error"]["message"]


def test_the_pictures_of_an_answer_are_bounded_together(url, colour_masker):
    """Enlarged without loss, each of 32 instructions may make much of a small request."""
    app = create_app(colour_masker, largest=60_000)
    body = {"image": url, "mode": "transparent", "options": {"longest": 300}}
    answer = ask(app, "POST", "/v1/mask", json={**body, "instruction": "red"})
    assert answer.status_code == 200
    size = len(answer.json()["results"][0]["picture"])
    many = 60_000 // size + 1
    answer = ask(app, "POST", "/v1/mask", json={**body, "instruction": ["red"] * many})
    assert answer.status_code == 400
    assert "at most 60000 bytes together" in answer.json()["error"]["message"]
    answer = ask(app, "POST", "/v1/mask", json={**body, "instruction": ["red"] * many, "picture": False})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"instruction": [1] * 50_000},
        {"instruction": "red", "tiles": ["x"] * 50_000},
        {"instruction": "red", **{f"field {k}": 1 for k in range(50_000)}},
    ],
    ids=["instructions", "tiles", "fields"],
)
def test_of_very_many_faults_a_few_are_told(wrong):
    """Each would be an object of its own, and take longer to tell than the request to send."""
    with pytest.raises(ValidationError) as caught:
        MaskRequest.model_validate({"image": "data:", **wrong})
    assert caught.value.error_count() <= 3


def test_what_is_no_text_breaks_no_answer(url, colour_masker):
    content = f'{{"image": "{url}", "instruction": "red", "options": {{"\\ud800": 1}}}}'
    headers = {"content-type": "application/json"}
    answer = ask(create_app(colour_masker), "POST", "/v1/mask", content=content, headers=headers)
    assert answer.status_code == 400
    assert "options must be among" in answer.json()["error"]["message"]


def test_a_threshold_as_text_is_told_like_a_number(url, colour_masker):
    body = {"image": url, "instruction": "green", "options": {"threshold": "1", "not_found": "error"}}
    answer = ask(create_app(colour_masker), "POST", "/v1/mask", json=body)
    assert answer.status_code == 400
    assert "not found" in answer.json()["error"]["message"]
