"""`ivm ask`: a question about a picture, masked by the question, to an LMM. Thin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ivm.endpoint import KEY_VARIABLE, read_key
from ivm.errors import OptionError
from ivm.model_cli import Device, Model, ModelOptions, Threads, Threshold, open_masker
from ivm.progress import say

__all__ = ["ask"]


def ask(
    image: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    instruction: Annotated[
        list[str], typer.Argument(help="What to ask; several are asked in turn.", show_default=False)
    ],
    lmm: Annotated[
        str, typer.Option(help="Name of the LMM on its server.", envvar="IVM_LMM", show_default=False)
    ],
    url: Annotated[
        str,
        typer.Option(
            help="OpenAI-compatible server, such as http://localhost:8000/v1.",
            envvar="IVM_LMM_URL",
            show_default=False,
        ),
    ],
    key_variable: Annotated[
        str, typer.Option(help="Environment variable that holds the server's key, if it needs one.")
    ] = KEY_VARIABLE,
    show: Annotated[str, typer.Option(help="What the LMM sees: masked, both or whole.")] = "masked",
    mode: Annotated[
        str, typer.Option("--mode", "-m", help="Deployment mode, as in ivm mask.")
    ] = "overlay+crop",
    model: Model = "compact",
    threshold: Threshold = None,
    tiles: Annotated[str | None, typer.Option(help="As in ivm mask.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write the picture of the last question here.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Mask, and ask nobody.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a question.")] = False,
    device: Device = "auto",
    threads: Threads = None,
    model_option: ModelOptions = None,
) -> None:
    """Mask a picture by a question, and ask the question of an LMM.

    The key is read from an environment variable, so that it stands in no list of processes.
    """
    from ivm.images import write_image
    from ivm.lmm import LMM, MaskedChat, check_chat
    from ivm.tiles import parse_tiles

    if not instruction:
        raise OptionError("there must be something to ask")
    if picture is not None and picture.exists() and image.exists() and picture.samefile(image):
        raise OptionError(f"{picture} is the source itself, which is never overwritten: choose another name")
    client = LMM(lmm, url, api_key=read_key(key_variable))
    parsed = parse_tiles(tiles)
    check_chat(mode, show, {"threshold": threshold})  # before the model is loaded
    masker = open_masker(model, device, threads, model_option)
    chat = MaskedChat(client, masker, image, mode=mode, show=show, tiles=parsed, threshold=threshold)
    for text in instruction:
        if dry_run:
            heatmap, rendered = chat.look(text)
            reply = None
        else:
            turn = chat.ask(text)
            heatmap, rendered, reply = turn.heatmap, turn.rendered, turn.reply
        if as_json:
            record = {
                "instruction": text,
                "answer": reply.text if reply else None,
                "found": heatmap.found,
                "score": round(heatmap.score, 4),
                "kept_whole": rendered.kept_whole,
                "usage": dict(reply.usage) if reply else {},
            }
            say(json.dumps(record, ensure_ascii=False))
        else:
            if not heatmap.found:
                say(f"not found ({heatmap.score:.0%} sure): {text}", err=True)
            elif rendered.kept_whole:
                say(f"nothing above the threshold, so the picture is kept whole: {text}", err=True)
            if reply is not None:
                say(reply.text)
        if (
            picture is not None
        ):  # last: an answer that was paid for is told whether or not this can be written
            write_image(rendered.image, picture)
