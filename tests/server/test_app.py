import asyncio

import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from ivm.lmm import image_url  # noqa: E402
from ivm.server.app import create_app  # noqa: E402
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
