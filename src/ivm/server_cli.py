"""`ivm serve`. Thin."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ivm.endpoint import KEY_VARIABLE, read_key
from ivm.errors import OptionError, require
from ivm.model_cli import Device, Model, ModelOptions, Threads, open_masker

__all__ = ["serve"]

_LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    model: Model = "compact",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    upstream: Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible LMM server that chats are passed on to.",
            envvar="IVM_LMM_URL",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[str, typer.Option("--mode", "-m", help="Deployment mode of chats.")] = "overlay+crop",
    show: Annotated[str, typer.Option(help="What the LMM sees: masked, both or whole.")] = "masked",
    device: Device = "auto",
    threads: Threads = None,
    model_option: ModelOptions = None,
) -> None:
    """Serve a page, an API and an OpenAI-compatible proxy that masks what passes.

    The upstream's key is read from IVM_LMM_KEY. With IVM_SERVER_TOKEN set, clients must send that token.
    """
    uvicorn = require("uvicorn", "server")
    require("fastapi", "server")
    require("httpx", "server")
    from ivm.server.app import create_app
    from ivm.server.proxy import Masking, Upstream

    key, token = read_key(KEY_VARIABLE), os.environ.get("IVM_SERVER_TOKEN") or None
    if host not in _LOCAL and key and not token:
        raise OptionError(
            f"listening on {host} would let anybody spend the key in IVM_LMM_KEY: set IVM_SERVER_TOKEN, too"
        )
    behind = Upstream(upstream, key) if upstream else None
    masking = Masking(mode=mode, show=show)  # wrong settings are told before the model is loaded
    app = create_app(
        open_masker(model, device, threads, model_option),
        behind,
        masking,
        token=token,
        hosts=("127.0.0.1", "localhost", "[::1]", "::1") if host in _LOCAL else (),
    )
    typer.echo(f"http://{f'[{host}]' if ':' in host else host}:{port}/", err=True)
    uvicorn.run(app, host=host, port=port, log_level="warning")
