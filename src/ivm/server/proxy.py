"""The OpenAI-compatible proxy: chat completions pass through, their pictures masked by the question.

Any program that speaks to an LMM through the OpenAI API gains masking by another base URL. Every picture of
the conversation is masked by the text of the latest user message, so that a follow-up question is answered
from a picture masked for it. A field "ivm" of the request may set mode, show, instruction, tiles and options;
it is taken out before the request goes on. The answer tells in its field "ivm" (not in streams) and in the
header x-ivm-found what was found.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import httpx
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse

from ivm.endpoint import check_address, check_key, goes_by_proxy
from ivm.errors import InputError, LMMError, OptionError
from ivm.lmm import check_chat, image_url
from ivm.render import Transform, shrink
from ivm.server.pictures import (
    LARGEST,
    Darkroom,
    check_allowed,
    check_looks,
    check_sent,
    decode_picture,
    facts,
)
from ivm.tiles import parse_tiles
from ivm.types import check_instruction

__all__ = ["PAIR_NOTE", "Masking", "Upstream", "chat_completions", "mask_messages", "models"]

PAIR_NOTE = "Of the last two pictures, one is whole; from the other, what does not matter was removed."
"""What the LMM is told behind each pair of pictures; one conversation may hold several."""

_PASSED = {"content-type", "retry-after", "x-request-id"}  # headers of the upstream's answer that go on


@dataclass(frozen=True)
class Upstream:
    """The LMM server behind the proxy.

    Attributes:
        base_url: up to and with the version: "http://localhost:8000/v1".
        api_key: sent instead of what the client sends; None: the client's own key goes on. Neither goes over
            plain http to another machine.
        timeout: seconds for a connection, and between two pieces of an answer.
        transport: an httpx transport; None for the network.

    Raises:
        OptionError: the URL or the key cannot be used.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 120.0
    transport: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "api_key", check_key(self.api_key))
        check_address(self.base_url, self.api_key)


@dataclass(frozen=True)
class Masking:
    """How the pictures of a chat are masked.

    Attributes:
        mode: deployment mode.
        show: "masked", "both" or "whole", see `ivm.lmm.SHOW`.
        instruction: what to mask by; None: the text of the latest user message.
        tiles: as in `ivm mask`, or as in Python.
        longest: masked pictures are scaled down to so many pixels along the longer side.
        options: further options of `ivm.render`, of RENDER_OPTIONS.

    Raises:
        InstructionError: the instruction is empty, too long or not text.
        OptionError: anything else is wrong.
    """

    mode: str = "overlay+crop"
    show: str = "masked"
    instruction: str | None = None
    tiles: str | int | Sequence[int] | None = None
    longest: int = 1024
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_allowed(self.options)
        check_chat(self.mode, self.show, self.options)
        parse_tiles(self.tiles)
        if self.instruction is not None:
            check_instruction(self.instruction)
        if not isinstance(self.longest, int) or self.longest < 28:
            raise OptionError(f"longest must be a whole number of at least 28, but got {self.longest!r}")


def mask_messages(
    room: Darkroom, messages: list[Any], masking: Masking, largest: int = LARGEST
) -> tuple[list[Any], list[dict[str, Any]]]:
    """A copy of the messages with masked pictures, and what was found in each picture.

    The `transform` of what was found maps the picture that the LMM is shown, of two the second, to the one
    that came. `largest`: bytes of all masked pictures together, as they are sent.

    Raises:
        InputError: a message or a picture has another form than OpenAI's, or there are too many pictures, or
            too large ones.
    """
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise InputError("messages must be a list of objects")
    instruction = masking.instruction or _latest_text(messages)
    masked: list[Any] = []
    found: list[dict[str, Any]] = []
    sent = 0
    for message in messages:
        content = message.get("content")
        if not isinstance(content, list):
            masked.append(message)
            continue
        parts: list[Any] = []
        for part in content:
            # Some servers take a picture under another type, or none.
            if not isinstance(part, dict) or not (part.get("image_url") or part.get("type") == "image_url"):
                parts.append(part)
                continue
            given = part.get("image_url")
            url = given.get("url") if isinstance(given, dict) else given
            if not isinstance(url, str):
                raise InputError("an image_url must hold a url")
            if not instruction:
                raise InputError("a picture came without a question: there must be text in a user message")
            check_looks(len(found) + 1, "pictures")
            heatmap, rendered = room.look(
                decode_picture(url), instruction, masking.mode, masking.options, parse_tiles(masking.tiles)
            )
            if masking.show != "masked":
                parts.append(part)
            if masking.show == "masked" or (masking.show == "both" and not rendered.kept_whole):
                rendered = shrink(rendered, masking.longest)
                detail = {"detail": given["detail"]} if isinstance(given, dict) and "detail" in given else {}
                shown = {"url": image_url(rendered.image), **detail}
                sent = check_sent(sent + len(shown["url"]), largest)
                parts.append({"type": "image_url", "image_url": shown})
                if masking.show == "both":
                    parts.append({"type": "text", "text": PAIR_NOTE})
            else:  # the LMM sees the picture alone, as it came
                size = rendered.transform.original_size
                rendered = replace(rendered, transform=Transform(size, size))
            found.append(facts(heatmap, rendered, masking.options.get("threshold")))
        masked.append({**message, "content": parts})
    return masked, found


def _latest_text(messages: list[Any]) -> str:
    for message in reversed(messages):
        if message.get("role") != "user":
            continue
        content = message.get("content")
        texts = [content] if isinstance(content, str) else []
        if isinstance(content, list):
            texts = [
                str(p.get("text") or "") for p in content if isinstance(p, dict) and p.get("type") == "text"
            ]
        if "".join(texts).strip():
            return "\n".join(texts).strip()
    return ""


async def chat_completions(
    request: Request,
    room: Darkroom,
    upstream: Upstream | None,
    masking: Masking,
    pass_key: bool = True,
    largest: int = LARGEST,
) -> Response:
    """Mask the pictures of a request, pass it on, and pass the answer back, as a stream if it is one.

    Args:
        request: the client's.
        room: masks.
        upstream: where it goes.
        masking: how, where the request does not say.
        pass_key: whether the client's authorisation is for the upstream, and not for this server.
        largest: bytes of all masked pictures together.

    Raises:
        InputError: the request cannot be used, or there is no upstream.
        LMMError: the upstream does not answer.
    """
    upstream = _there(upstream)
    authorisation = _authorisation(upstream, request if pass_key else None)
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body must be JSON: {error}") from error
    if not isinstance(body, dict):
        raise InputError("the body must be a JSON object")
    masking = _asked(masking, body.pop("ivm", None))
    messages, found = await run_in_threadpool(
        mask_messages, room, body.get("messages") or [], masking, largest
    )
    try:
        passed = json.dumps({**body, "messages": messages}, allow_nan=False)
    except (ValueError, RecursionError) as error:  # Python reads NaN and Infinity, which JSON does not have
        raise InputError(f"the body must be JSON: {error}") from error

    client = _client(upstream, authorisation)
    try:
        url = f"{upstream.base_url.rstrip('/')}/chat/completions"
        kind = {"content-type": "application/json"}
        answer = await client.send(
            client.build_request("POST", url, content=passed, headers=kind), stream=True
        )
    except (httpx.RequestError, httpx.InvalidURL) as error:
        await client.aclose()
        raise _silent(upstream, error) from error
    headers = {name: value for name, value in answer.headers.items() if name.lower() in _PASSED}
    headers["x-ivm-found"] = ",".join(str(one["found"]).lower() for one in found)
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        return StreamingResponse(_passed_on(answer, client), status_code=answer.status_code, headers=headers)
    try:
        content = await answer.aread()
    except httpx.RequestError as error:
        raise LMMError(f"{upstream.base_url} broke off its answer ({type(error).__name__})") from error
    finally:
        await answer.aclose()
        await client.aclose()
    try:
        told = json.loads(content)
        if isinstance(told, dict) and answer.status_code == 200:
            content = json.dumps({**told, "ivm": found}).encode()
            headers["content-type"] = "application/json"
    except (ValueError, RecursionError):
        pass  # no JSON: passed on as it came
    return Response(content, status_code=answer.status_code, headers=headers)


async def models(request: Request, upstream: Upstream | None, pass_key: bool = True) -> Response:
    """The upstream's list of models; arguments and errors as in `chat_completions`."""
    upstream = _there(upstream)
    async with _client(upstream, _authorisation(upstream, request if pass_key else None)) as client:
        try:
            answer = await client.get(f"{upstream.base_url.rstrip('/')}/models")
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise _silent(upstream, error) from error
    kind = answer.headers.get("content-type", "application/json")
    return Response(answer.content, status_code=answer.status_code, media_type=kind)


async def _passed_on(answer: httpx.Response, client: httpx.AsyncClient) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_bytes():
            yield piece
    except httpx.RequestError as error:  # the status is sent already: tell in the stream, as OpenAI does
        told = {
            "error": {"message": f"the LMM broke off its answer ({type(error).__name__})", "type": "upstream"}
        }
        yield f"\n\ndata: {json.dumps(told)}\n\n".encode()  # ends the line in which it broke off
    finally:
        await answer.aclose()
        await client.aclose()


def _there(upstream: Upstream | None) -> Upstream:
    if upstream is None:
        raise InputError("this server has no LMM behind it: start it with --upstream URL")
    return upstream


def _silent(upstream: Upstream, error: Exception) -> LMMError:
    return LMMError(f"{upstream.base_url} does not answer ({type(error).__name__}): is it running?")


def _authorisation(upstream: Upstream, request: Request | None) -> str | None:
    """The upstream's key as a header, or else that of a request; None: its key is not for the upstream."""
    if upstream.api_key:
        return f"Bearer {upstream.api_key}"
    if request is None:
        return None
    try:
        given = check_key(request.headers.get("authorization"))
        check_address(upstream.base_url, given)
    except OptionError as error:
        raise OptionError(f"your key cannot go on to the LMM behind this server: {error}") from error
    return given


def _client(upstream: Upstream, authorisation: str | None) -> httpx.AsyncClient:
    headers = {"authorization": authorisation} if authorisation else {}
    try:
        return httpx.AsyncClient(
            timeout=upstream.timeout,
            transport=upstream.transport,
            headers=headers,
            follow_redirects=False,
            trust_env=goes_by_proxy(upstream.base_url),
        )
    except (ImportError, ValueError) as error:  # such as a SOCKS proxy without what it needs
        raise LMMError(
            f"{upstream.base_url} cannot be asked by the proxy that the environment names: {error}"
        ) from error


def _asked(masking: Masking, given: Any) -> Masking:
    """The server's masking with what a request changes."""
    if given is None:
        return masking
    names = [one.name for one in fields(Masking)]
    if not isinstance(given, dict) or set(given) - set(names):
        raise OptionError(f'"ivm" must be an object with {", ".join(names)}, but got {given!r}')
    options = given.get("options") or {}
    if not isinstance(options, dict):
        raise OptionError(f"options must be an object, but got {options!r}")
    return replace(masking, **{**given, "options": {**masking.options, **options}})
