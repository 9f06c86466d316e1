"""The command line. Thin; a command imports what it needs.

Exit codes: 0 done, 1 a file or a model failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ivm.annotation_cli import annotate
from ivm.data_cli import data
from ivm.errors import InstructionError, IVMError, OptionError
from ivm.eval_cli import evaluate
from ivm.lmm_cli import ask
from ivm.model_cli import Device, Model, ModelOptions, Threads, Threshold, open_masker
from ivm.progress import progress, say
from ivm.robot_cli import robot
from ivm.server_cli import serve
from ivm.training_cli import export, score, train

if TYPE_CHECKING:
    from ivm.jobs import Item, Outcome, Settings
    from ivm.masker import Masker

__all__ = ["app", "main"]

_USAGE, _FAILED, _INTERRUPTED = 2, 1, 130
_SHOWN = 20  # failures listed at the end of a job; all of them are in its record


class _Group(TyperGroup):
    """Turns the errors that ivm raises on purpose into one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except IVMError as error:
            say(f"error: {error}", err=True)
            usage = isinstance(error, OptionError | InstructionError)
            raise typer.Exit(_USAGE if usage else _FAILED) from error
        except OSError as error:  # a path that no file can have: too long, a loop of links, not permitted
            if isinstance(error, BrokenPipeError):  # the reader of our output has gone, as `head` does
                raise
            say(f"error: {error.filename or 'input/output'}: {error.strerror or error}", err=True)
            raise typer.Exit(_FAILED) from error


app = typer.Typer(
    name="ivm",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: it starts faster, and reads well at any width and without colour
    pretty_exceptions_enable=False,
)
app.add_typer(evaluate, name="eval")
app.add_typer(data, name="data")
app.add_typer(train, name="train")
app.add_typer(robot, name="robot")
app.command()(annotate)
app.command()(ask)
app.command()(serve)
app.command()(score)
app.command()(export)


def main() -> None:
    """Run the command line; the entry point of `ivm`."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        from ivm import __version__

        typer.echo(f"ivm {__version__}")
        raise typer.Exit


@app.callback()
def _ivm(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keep the pixels that an instruction is about, mask out the rest."""


@app.command()
def mask(
    image: Annotated[
        Path,
        typer.Argument(help="A picture, a folder of pictures, or a .jsonl manifest.", show_default=False),
    ],
    instruction: Annotated[
        str | None,
        typer.Argument(help="What to keep, in any words. Left out for a manifest.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write; folder, for a folder or manifest.  [default: beside IMAGE]"
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            "-m",
            help="Deployment mode: overlay, blur, grayscale, crop, overlay+crop, darken, transparent, "
            "outline or heatmap.",
        ),
    ] = "overlay",
    model: Model = "compact",
    threshold: Threshold = None,
    tiles: Annotated[
        str | None,
        typer.Option(help="Look closer, for small targets: auto, a number along the longer side, or RxC."),
    ] = None,
    dilate: Annotated[
        float | None, typer.Option(help="Grow the mask by this share of the height.  [default: 0.05]")
    ] = None,
    feather: Annotated[
        float | None, typer.Option(help="Soften its edge, likewise.  [default: as --dilate]")
    ] = None,
    colour: Annotated[
        str | None, typer.Option(help="Of overlay and outline: a name or #rrggbb.  [default: white]")
    ] = None,
    opacity: Annotated[
        float | None, typer.Option(help="How completely the rest is replaced, 0 to 1.  [default: 1]")
    ] = None,
    not_found: Annotated[
        str,
        typer.Option(help="If the target is not there: keep the whole picture, mask it anyway, or error."),
    ] = "keep",
    exact: Annotated[
        bool, typer.Option("--exact", help="Render exactly as the reference code (slower).")
    ] = False,
    heatmap: Annotated[
        Path | None,
        typer.Option(help="Also write the heatmap: .npy or grey picture; else a folder, as --output."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON a picture, for programs.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    model_option: ModelOptions = None,
) -> None:
    """Mask pictures: keep what the instruction is about.

    Of a folder (with its folders) every picture is masked for one INSTRUCTION; a manifest has a line
    {"image": "a.jpg", "instruction": "the cup", "id": "optional"} for each. Both write a folder with a
    record, results.jsonl; run the same command again, and it goes on where it stopped.
    """
    from ivm.jobs import Settings
    from ivm.tiles import parse_tiles

    given = {
        "threshold": threshold,
        "dilate": dilate,
        "feather": feather,
        "colour": colour,
        "opacity": opacity,
        "not_found": not_found,
        "exact": exact,
    }
    options = {name: value for name, value in given.items() if value is not None}
    settings = Settings(mode, parse_tiles(tiles), options)
    settings.check()
    manifest = image.suffix.lower() in {".jsonl", ".ndjson"}
    if manifest and instruction is not None:
        raise OptionError(f"a manifest has its own instructions, but {instruction!r} came beside {image}")
    if not manifest and instruction is None:
        raise InstructionError('an instruction must follow the image: ivm mask photo.jpg "the red cup"')

    def opened() -> Masker:
        return open_masker(model, device, threads, model_option)

    if manifest or image.is_dir():
        from ivm.jobs import read_folder, read_manifest

        name = image.stem if manifest else image.resolve().name  # "." has no name of its own
        folder = output or image.parent / f"{name}-masked"
        if manifest:
            items, faults = read_manifest(image)
        else:
            made = [folder] if heatmap is None else [folder, heatmap]
            items, faults = read_folder(image, instruction or "", without=made), []
        _run_job(opened(), items, faults, folder, settings, heatmap, as_json)
        return
    _mask_one(opened, image, instruction or "", output, settings, heatmap, as_json)


def _mask_one(
    opened: Callable[[], Masker],
    image: Path,
    instruction: str,
    output: Path | None,
    settings: Settings,
    heatmap: Path | None,
    as_json: bool,
) -> None:
    from ivm.images import read_image
    from ivm.jobs import mask_picture, write_heatmap
    from ivm.types import check_instruction

    check_instruction(instruction)
    pixels = read_image(image)  # before the model is loaded: a wrong path is told at once
    target = output or image.with_name(f"{image.stem}-masked.png")
    if target.is_dir():
        target = target / f"{image.stem}-masked.png"
    for path in filter(None, (target, heatmap)):
        if path.exists() and path.samefile(image):
            raise OptionError(f"{path} is the source itself, which is never overwritten: choose another name")
    if heatmap is not None and heatmap.resolve() == target.resolve():
        raise OptionError(f"--heatmap must name another file than --output, but both name {target}")
    values, record = mask_picture(opened(), pixels, pixels, instruction, target, settings)
    if heatmap is not None:
        write_heatmap(values, heatmap)
        record["heatmap"] = str(heatmap)
    say(json.dumps({"image": str(image), **record}) if as_json else _words(record))


def _words(record: dict[str, Any]) -> str:
    """A record for people, narrow lines first to last in the order in which they matter."""
    verdict = "found" if record["found"] else "not found"
    lines = [record["output"], f"  target     {verdict}, score {record['score']:.2f}"]
    if record["kept_whole"]:
        lines.append("  kept       the whole picture, unchanged")
    else:
        lines.append(f"  kept area  {record['kept_area']:.1%}")
    if record["box"] is not None:
        lines.append("  box        " + ", ".join(str(edge) for edge in record["box"]))
    if "heatmap" in record:
        lines.append(f"  heatmap    {record['heatmap']}")
    return "\n".join(lines)


def _run_job(
    masker: Masker,
    items: list[Item],
    faults: list[Outcome],
    folder: Path,
    settings: Settings,
    heatmaps: Path | None,
    as_json: bool,
) -> None:
    from ivm.jobs import RESULTS, mask_items

    failed: list[Outcome] = []
    made = skipped = missing = 0
    total = len(faults) + len(items)
    try:
        with progress(total) as advance:
            for outcome in mask_items(masker, items, folder, settings, heatmaps, faults):
                if outcome.error:
                    failed.append(outcome)
                elif outcome.skipped:
                    skipped += 1
                else:
                    made += 1
                missing += not outcome.error and not outcome.record["found"]
                if as_json:
                    place = (
                        {"output": str(folder / outcome.record["output"])}
                        if "output" in outcome.record
                        else {}
                    )
                    say(json.dumps({**outcome.record, **place}))
                advance()
    except KeyboardInterrupt:
        say(
            f"interrupted: {made + skipped} of {total} are done; the same command goes on from there",
            err=True,
        )
        raise typer.Exit(_INTERRUPTED) from None
    counts = f"{made} masked" + (f", {skipped} done before" if skipped else "")
    counts += f", target not found in {missing}" if missing else ""
    say(f"{folder}: {counts}" + (f", {len(failed)} failed" if failed else ""), err=as_json)
    for outcome in failed[:_SHOWN]:
        say(f"  {outcome.what}: {outcome.error}", err=True)
    if len(failed) > _SHOWN:
        say(f"  and {len(failed) - _SHOWN} more, see {folder / RESULTS}", err=True)
    if failed:
        raise typer.Exit(_FAILED)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write.")] = Path("demo.png"),
    model: Model = "compact",
    device: Device = "auto",
    threads: Threads = None,
    model_option: ModelOptions = None,
) -> None:
    """Mask bundled pictures and write one sheet of them.

    It shows each picture, its heatmap, and every deployment mode.
    """
    from ivm.demo import draw_sheet, mask_pictures
    from ivm.images import write_image

    masker = open_masker(model, device, threads, model_option)
    write_image(draw_sheet(list(mask_pictures(masker))), output)
    say(str(output))


@app.command()
def models() -> None:
    """List the model presets: size, licence, what each is and cannot do, where it comes from."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from ivm.models.config import PRESETS

    console = Console(highlight=False)
    for place, preset in enumerate(PRESETS.values()):
        head = Text.assemble((preset.name, "bold"), f"  {preset.megabytes:,.0f} MB, {preset.licence}")
        lines = [preset.summary]
        if preset.cannot:
            lines.append(f"It cannot {preset.cannot}.")
        if preset.hub or preset.parts:
            parts = (*([(preset.hub, preset.revision)] if preset.hub else []), *preset.parts)
            lines.append("From " + " and ".join(f"{hub}@{revision}" for hub, revision in parts))
        if preset.extra:
            lines.append(f"Needs  pip install 'ivm[{preset.extra}]'")
        if place:
            console.print()
        console.print(head)
        for line in lines:
            console.print(Padding(Text(line), (0, 0, 0, 2), expand=False))
