"""Masked chat: mask the picture by the instruction, then ask any OpenAI-compatible LMM about what is left.

    picture, instruction -> heatmap -> rendered picture -> messages -> LMM -> Turn

`LMM` is the client (chat completions over HTTP), `messages_for` the messages, `MaskedChat` the whole way for
a conversation about one picture: it is encoded once, and masked anew for every instruction.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from ivm.endpoint import check_address, check_key, goes_by_proxy
from ivm.errors import ImageError, LMMError, OptionError, require
from ivm.images import ImageLike, read_image
from ivm.masker import Masker
from ivm.render import Rendered, Transform, check_options, render, shrink
from ivm.tiles import Tiles
from ivm.types import Heatmap

__all__ = [
    "BOTH_NOTE",
    "LMM",
    "SHOW",
    "MaskedChat",
    "Reply",
    "Turn",
    "check_chat",
    "image_url",
    "messages_for",
]

SHOW: dict[str, str] = {
    "masked": "the masked picture alone, as in the paper",
    "both": "the whole picture, then the masked one: safer where the mask may be wrong, at twice the tokens",
    "whole": "the picture as it is: what an answer without masking would be",
}
"""Which pictures an LMM is shown; the first is the default."""

BOTH_NOTE = "The first picture is whole. In the second, what does not matter for the instruction was removed."
"""What an LMM is told where it sees two pictures."""

_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
_LONGEST_WAIT = 30.0  # seconds, whatever a server asks for


@dataclass(frozen=True)
class Reply:
    """What an LMM answered.

    Attributes:
        text: the answer.
        model: the model's own name for itself, as the server reports it.
        usage: tokens as the server counts them, such as prompt_tokens; empty if it does not tell.
        finish_reason: why it stopped: "stop", "length", ...; empty if it does not tell.
    """

    text: str
    model: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)
    finish_reason: str = ""


@dataclass(frozen=True)
class LMM:
    """An LMM behind an OpenAI-compatible server (OpenAI, vLLM, llama.cpp, Ollama, LM Studio, ...).

    Attributes:
        model: its name on the server.
        base_url: up to and with the version: "http://localhost:8000/v1". Requests go to
            {base_url}/chat/completions and nowhere else: redirects are not followed.
        api_key: sent as a bearer token; never shown, logged or put into an error. Over plain http it is sent
            to this machine only, and by no proxy.
        timeout: seconds for a connection, and between two pieces of an answer.
        retries: further tries when the server is busy or does not answer.
        options: further fields of every request, such as {"temperature": 0, "max_tokens": 200}.
        transport: an httpx transport; None for the network. For tests and for proxies.

    Raises:
        OptionError: the URL, the key or a number cannot be used.
    """

    model: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    retries: int = 2
    options: Mapping[str, Any] = field(default_factory=dict)
    transport: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "api_key", check_key(self.api_key))
        check_address(self.base_url, self.api_key)
        if not self.model:
            raise OptionError("model must be the name of an LMM on the server, but is empty")
        if self.timeout <= 0 or self.retries < 0:
            raise OptionError(
                f"timeout must be above 0 and retries at least 0, but got {self.timeout} and {self.retries}"
            )

    def complete(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Reply:
        """Ask, and wait for the whole answer.

        Args:
            messages: as `messages_for` makes them.
            options: further fields of this request; they come before those of the LMM.

        Raises:
            LMMError: the server cannot be reached, refuses, or answers in another form.
            MissingExtraError: httpx is not installed.
        """
        with self._send(messages, False, options) as response:
            response.read()
            content = _json(response.text, response.url.host)
        text, usage = _text(content, "message", self.model), content.get("usage")
        return Reply(
            text,
            str(content.get("model") or ""),
            usage if isinstance(usage, dict) else {},
            str(content["choices"][0].get("finish_reason") or ""),
        )

    def stream(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Iterator[str]:
        """Ask, and get the answer in pieces as the LMM writes it; arguments and errors as in `complete`.

        Of a server that knows no streams the answer comes in one piece.
        """
        with self._send(messages, True, options) as response:
            streams, whole = False, ""
            for line in response.iter_lines():
                if not line.startswith("data:"):
                    whole += "" if streams else line + "\n"
                    continue
                streams, data = True, line.removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                piece = _text(_json(data, response.url.host), "delta", self.model)
                if piece:
                    yield piece
            if not streams:
                yield _text(_json(whole, response.url.host), "message", self.model)

    def _send(self, messages: Sequence[Mapping[str, Any]], stream: bool, options: Mapping[str, Any]) -> Any:
        """An open response of status 200; a context manager that closes it and its client."""
        httpx = require("httpx", "lmm")
        body = {"model": self.model, "messages": list(messages), **self.options, **options}
        if stream:
            body["stream"] = True
        # In ASCII: an earlier answer may hold half a surrogate pair, which UTF-8 cannot.
        content = json.dumps(body, allow_nan=False)
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        try:
            client = httpx.Client(
                timeout=self.timeout,
                transport=self.transport,
                headers=headers,
                follow_redirects=False,
                trust_env=goes_by_proxy(self.base_url),
            )
        except (ImportError, ValueError) as error:  # such as a SOCKS proxy without what it needs
            raise LMMError(
                f"{url} cannot be asked by the proxy that the environment names: {error}"
            ) from error
        try:
            for left in range(self.retries, -1, -1):
                wait = 0.5 * 2.0 ** (self.retries - left)
                try:
                    response = client.send(client.build_request("POST", url, content=content), stream=True)
                    if response.status_code == 200:
                        return _Open(response, client)
                    text = response.read()[:2000].decode("utf-8", "replace")
                except httpx.InvalidURL as error:
                    raise OptionError(f"base_url must be an address, but {url!r} is none: {error}") from error
                except httpx.LocalProtocolError:  # its words may hold a header, and so the key
                    raise LMMError(f"{url} cannot be asked: a header of the request is not valid") from None
                except httpx.RequestError as error:
                    if left:
                        time.sleep(wait)
                        continue
                    raise LMMError(
                        f"{url} does not answer ({type(error).__name__}: {error}): is the server running?"
                    ) from error
                asked = response.headers.get("retry-after", "")
                if not left or response.status_code not in _RETRIED:
                    raise LMMError(f"{url} refused with status {response.status_code}: {_reason(text)}")
                time.sleep(min(_LONGEST_WAIT, float(asked) if asked.isdecimal() else wait))
            raise AssertionError("unreachable")
        except BaseException:
            client.close()
            raise


class _Open:
    """A response, closed together with its client."""

    def __init__(self, response: Any, client: Any) -> None:
        self.response, self.client = response, client

    def __enter__(self) -> Any:
        return self.response

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.response.close()
        self.client.close()
        if isinstance(error, require("httpx", "lmm").RequestError):  # in the middle of the answer
            url = self.response.url
            raise LMMError(f"{url} broke off its answer ({type(error).__name__}: {error})") from error


@dataclass(frozen=True, eq=False)
class Turn:
    """One question of a masked chat and its answer.

    Attributes:
        instruction: what was asked.
        reply: what the LMM answered.
        heatmap: what was taken to be relevant.
        rendered: the picture that the LMM was shown, as it was sent, with the transform of its coordinates;
            where it was shown two, the second. The first, the whole one, is only scaled down to `longest`.
    """

    instruction: str
    reply: Reply
    heatmap: Heatmap
    rendered: Rendered


class MaskedChat:
    """A conversation about one picture, which is masked anew for every instruction.

    Earlier turns stay in the conversation as text; of the pictures, the LMM sees those of the present turn.

    Args:
        lmm: who answers.
        masker: who finds what matters.
        image: path, encoded bytes, PIL image or uint8 [H, W, 3]; encoded once.
        mode: deployment mode, see `ivm.render.MODES`; the default is the paper's best.
        show: one of SHOW.
        system: system message, if any.
        longest: larger pictures are scaled down to so many pixels along the longer side before they are sent.
        tiles: as in `Masker.encode_image`, for targets that are small in a large picture.
        options: further options of `ivm.render`, such as threshold or not_found.

    Raises:
        ImageError: the image cannot be read.
        OptionError: `show`, `mode` or an option is wrong.
    """

    def __init__(
        self,
        lmm: LMM,
        masker: Masker,
        image: ImageLike,
        *,
        mode: str = "overlay+crop",
        show: str = "masked",
        system: str | None = None,
        longest: int = 1024,
        tiles: Tiles = None,
        **options: Any,
    ) -> None:
        check_chat(mode, show, options)
        if not isinstance(longest, int | np.integer) or longest < 28:
            raise OptionError(f"longest must be a whole number of at least 28, but got {longest!r}")
        self.lmm, self.masker, self.show, self.system, self.longest = lmm, masker, show, system, longest
        self._mode, self._options = mode, options
        self._image = read_image(image)
        self._features = masker.encode_image(self._image, tiles=tiles)
        self.turns: list[Turn] = []

    def look(self, instruction: str) -> tuple[Heatmap, Rendered]:
        """What the LMM would be shown for an instruction, see `Turn`; asks nobody."""
        heatmap = self.masker(self._features, instruction)
        rendered = render(self._image, heatmap, mode=self._mode, **self._options)
        if self.show == "whole":
            rendered = Rendered(self._image.copy(), _identity(self._image), rendered.kept_whole)
        return heatmap, shrink(rendered, self.longest)

    def messages(self, instruction: str, rendered: Rendered) -> list[dict[str, Any]]:
        """The request for an instruction, after all turns so far."""
        pictures = {"masked": [rendered.image], "whole": [self._image], "both": [self._image, rendered.image]}
        shown = pictures[self.show]
        if self.show == "both" and rendered.kept_whole:  # nothing was removed: the same picture twice
            shown = shown[:1]
        history = [(turn.instruction, turn.reply.text) for turn in self.turns]
        note = BOTH_NOTE if len(shown) == 2 else None
        urls = [image_url(picture, self.longest) for picture in shown]
        return messages_for(instruction, urls, system=self.system, history=history, note=note)

    def ask(self, instruction: str, **options: Any) -> Turn:
        """Mask the picture by the instruction, and ask it of the LMM.

        Args:
            instruction: any text.
            options: further fields of the request, such as temperature=0.

        Raises:
            InstructionError: the instruction is empty or too long.
            LMMError: as `LMM.complete`; the conversation stays as it was.
        """
        heatmap, rendered = self.look(instruction)
        reply = self.lmm.complete(self.messages(instruction, rendered), **options)
        turn = Turn(instruction, reply, heatmap, rendered)
        self.turns.append(turn)
        return turn


def messages_for(
    instruction: str,
    urls: Sequence[str],
    *,
    system: str | None = None,
    history: Sequence[tuple[str, str]] = (),
    note: str | None = None,
) -> list[dict[str, Any]]:
    """Messages of a chat completion: system, earlier turns as text, then pictures and instruction.

    Args:
        instruction: what is asked now.
        urls: pictures, as `image_url` makes them.
        system: system message.
        history: (instruction, answer) of earlier turns.
        note: a sentence about the pictures, between them and the instruction.
    """
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for asked, answered in history:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    parts += [{"type": "text", "text": note}] if note else []
    parts.append({"type": "text", "text": instruction})
    return [*messages, {"role": "user", "content": parts}]


def image_url(image: np.ndarray, longest: int | None = None, quality: int = 90) -> str:
    """A picture as a data URL: JPEG, or PNG where there is transparency.

    Args:
        image: uint8 [H, W, 3] RGB or [H, W, 4] RGBA.
        longest: scaled down to so many pixels along the longer side if larger; None: as it is.
        quality: of JPEG, 1 to 100.

    Raises:
        ImageError: it is larger than the format can hold.
    """
    if longest is not None:
        image = shrink(Rendered(image, _identity(image)), longest).image
    if image.shape[2] == 4:
        kind, pixels, options = "png", cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA), []
    else:
        kind, pixels = "jpeg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    done, encoded = cv2.imencode("." + kind, pixels, options)
    if not done:  # JPEG ends at 65,500 pixels a side, PNG as OpenCV writes it at a million
        height, width = image.shape[:2]
        raise ImageError(
            f"a picture of {width}x{height} pixels is too large for {kind.upper()}: make it smaller"
        )
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"


def check_chat(mode: str, show: str, options: Mapping[str, Any]) -> None:
    """Find wrong settings of a `MaskedChat` before a model is loaded or a picture read.

    Raises:
        OptionError: one is wrong.
    """
    check_options(mode, options)
    if not isinstance(show, str) or show not in SHOW:
        raise OptionError(f"show must be one of {', '.join(SHOW)}, but got {show!r}")


def _identity(image: np.ndarray) -> Transform:
    size = (image.shape[1], image.shape[0])
    return Transform(size, size)


def _text(content: dict[str, Any], part: str, model: str) -> str:
    """choices[0].message.content of an answer; or choices[0].delta.content of a stream's event, if any."""
    try:
        choices = content.get("choices") or ([{}] if part == "delta" else [])
        text = (choices[0].get(part) or {}).get("content")
        if text is None and part == "delta":
            return ""  # it tells the role, the usage or the end
        if not isinstance(text, str):
            raise TypeError(f"content is {type(text).__name__}")
    except (LookupError, TypeError, AttributeError) as error:
        raise LMMError(
            f"the answer of {model} must hold choices[0].{part}.content as text, but: {error!r}"
        ) from error
    return text


def _json(text: str, host: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LMMError(f"{host} must answer in JSON, but sent {text[:80]!r}") from error
    if not isinstance(content, dict):
        raise LMMError(f"{host} must answer with a JSON object, but sent {text[:80]!r}")
    if content.get("error"):  # a stream tells of an error in the middle so
        raise LMMError(f"{host} failed: {_reason(text)}")
    return content


def _reason(text: str) -> str:
    """What a server says about an error, in the usual form or in another."""
    try:
        error = json.loads(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:300]
    except (ValueError, KeyError, TypeError, RecursionError):
        return text.strip()[:300] or "no reason given"
