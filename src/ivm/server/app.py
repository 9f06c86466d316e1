"""The server: `create_app(masker, upstream)` is an ASGI application.

    GET  /                     a page to try it
    GET  /health               what is served
    POST /v1/mask              a picture and instructions -> masked pictures
    POST /v1/chat/completions  OpenAI-compatible: pictures are masked by the question, then passed on
    GET  /v1/models            the upstream's models

Errors come in OpenAI's form, {"error": {"message", "type"}}, with status 400, 401, 404, 405, 413, 500 or 502.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine, Mapping
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ivm.endpoint import check_key
from ivm.errors import InputError, IVMError, LMMError, OptionError
from ivm.lmm import image_url
from ivm.masker import Masker
from ivm.render import MODES
from ivm.server.pictures import (
    LARGEST,
    MAX_PIXELS,
    Darkroom,
    check_looks,
    check_sent,
    decode_picture,
    facts,
)
from ivm.server.proxy import Masking, Upstream, chat_completions, models
from ivm.tiles import parse_tiles

__all__ = ["MaskRequest", "create_app"]


# Every wrong item of a list would become an error of its own, six hundred times as large as the item.
_SHORT = Field(fail_fast=True)


class MaskRequest(BaseModel):
    """Body of POST /v1/mask."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few(cls, given: Any) -> Any:
        """As with lists: of very many fields one error is enough."""
        if isinstance(given, dict) and len(given) > 2 * len(cls.model_fields):
            raise ValueError(f"a request has the fields {', '.join(cls.model_fields)}, but has {len(given)}")
        return given

    image: str = Field(description='a data URL: "data:image/jpeg;base64,..."')
    instruction: str | Annotated[list[str], _SHORT] = Field(
        description="one, or several about the same picture"
    )
    mode: str = Field("overlay", description="deployment mode: " + ", ".join(MODES))
    options: dict[str, Any] = Field({}, description="further options of ivm.render, such as threshold")
    tiles: str | StrictInt | Annotated[list[StrictInt], _SHORT] | None = Field(
        None, description="as in ivm mask: auto, a number, or rows x columns"
    )
    picture: bool = Field(True, description="send the masked picture as a data URL")
    rle: bool = Field(False, description="send the mask in COCO's compressed run-length encoding")


def create_app(
    masker: Masker,
    upstream: Upstream | None = None,
    masking: Masking | None = None,
    *,
    token: str | None = None,
    hosts: tuple[str, ...] = (),
    largest: int = LARGEST,
    max_pixels: int = MAX_PIXELS,
) -> FastAPI:
    """The server as an ASGI application.

    Args:
        masker: finds what matters.
        upstream: the LMM server that chat completions are passed on to; None: there is no proxy.
        masking: how chat pictures are masked where a request does not say; None: the defaults.
        token: clients of /v1 must send it as a bearer token; None: anybody may ask.
        hosts: names by which the server may be addressed, which keeps foreign web pages from reaching it
            under a name of their own (DNS rebinding); empty: any.
        largest: bytes of the largest request, and of all masked pictures that one request makes.
        max_pixels: of the largest picture that is taken, or made by enlarging.

    Raises:
        OptionError: the token is empty, or a header cannot hold it.
    """
    if token is not None and not (token := check_key(token, "token")):
        raise OptionError("token must be text that clients can send, or None for no token, but is empty")
    app = FastAPI(
        title="ivm", description="Instruction-guided visual masking", docs_url="/docs", redoc_url=None
    )
    room = Darkroom(masker, max_pixels=max_pixels)
    if hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))

    class Guarded(APIRoute):
        """A route that checks who asks before it reads the body, wherever the server is mounted."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            answer = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                return _refused(request, token, largest) or await answer(request)

            return guarded

    v1 = APIRouter(prefix="/v1", route_class=Guarded)

    @app.exception_handler(IVMError)
    async def failed(request: Request, error: IVMError) -> JSONResponse:
        if isinstance(error, LMMError):
            return _refusal(502, str(error), "upstream")
        return _refusal(400 if isinstance(error, InputError) else 500, str(error), type(error).__name__)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        told = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
        return _refusal(400, told, "invalid_request")

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return _refusal(error.status_code, str(error.detail), "invalid_request", error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return _refusal(500, "the server has a fault: its log tells more", "server_error")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return files("ivm").joinpath("assets", "server", "page.html").read_text(encoding="utf-8")

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """What is served."""
        return {
            "status": "ok",
            "model": masker.name,
            "modes": list(MODES),
            "upstream": upstream.base_url if upstream else None,
        }

    @v1.post("/mask")
    async def mask(body: MaskRequest) -> dict[str, Any]:
        """Mask one picture by one or several instructions."""
        return await run_in_threadpool(_mask, room, body, largest)

    @v1.post("/chat/completions")
    async def chat(request: Request) -> Any:
        """OpenAI's chat completions: every picture is masked by the latest question, all is passed on."""
        return await chat_completions(
            request, room, upstream, masking or Masking(), pass_key=token is None, largest=largest
        )

    @v1.get("/models")
    async def known(request: Request) -> Any:
        """The models of the upstream."""
        return await models(request, upstream, pass_key=token is None)

    app.include_router(v1)
    return app


def _refused(request: Request, token: str | None, largest: int) -> JSONResponse | None:
    """The refusal of a request by its head alone; None if it may go on."""
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if token and not hmac.compare_digest(given.encode(), token.encode()):
        return _refusal(401, "this server asks for its token as a bearer token", "unauthorised")
    if request.method != "POST":
        return None
    # A form of a foreign page cannot send this type, so that no other site asks in a user's name.
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        return _refusal(400, "the content type must be application/json", "invalid_request")
    # Of a request in chunks no length holds, whatever it says.
    chunked = "transfer-encoding" in request.headers
    length = "" if chunked else request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > largest:
        told = f"{int(length)} bytes" if length.isdecimal() else "no content-length"
        return _refusal(413, f"a request must have at most {largest} bytes, but has {told}", "too_large")
    return None


def _mask(room: Darkroom, body: MaskRequest, largest: int) -> dict[str, Any]:
    content = decode_picture(body.image)
    asked = [body.instruction] if isinstance(body.instruction, str) else body.instruction
    if not asked:
        raise InputError("there must be at least one instruction")
    check_looks(len(asked), "instructions")
    tiles, results, sent = parse_tiles(body.tiles), [], 0
    for instruction in asked:
        heatmap, rendered = room.look(content, instruction, body.mode, body.options, tiles)
        threshold = body.options.get("threshold")
        result = facts(heatmap, rendered, threshold)
        if body.picture:
            result["picture"] = image_url(rendered.image)
            sent = check_sent(sent + len(result["picture"]), largest)
        if body.rle:
            result["rle"] = heatmap.to_rle(threshold)
        results.append(result)
    return {"model": room.masker.name, "mode": body.mode, "results": results}


def _refusal(status: int, message: str, kind: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    # Messages repeat what came, which may be long, or no text that can be sent (half a surrogate pair).
    told = message[:1000].encode("utf-8", "replace").decode("utf-8")
    return JSONResponse({"error": {"message": told, "type": kind}}, status, headers)
