"""`ivm train`, `ivm score`, `ivm export`. Thin; a command imports what it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

__all__ = ["export", "score", "train"]

_INTERRUPTED = 130


class _Group(TyperGroup):
    """Help that ends in the options of a configuration, which come from the one place that defines them."""

    def get_help(self, ctx: Any) -> str:
        from ivm.training.config import STAGES
        from ivm.training.config_file import options

        lines = [
            super().get_help(ctx),
            "",
            "Options of a configuration (ivm train options prints them as a file):",
        ]
        known: dict[str, str] = {}
        for stage in STAGES:
            known |= {name: one.metadata["about"] for name, one in options(stage) if name not in known}
        width = max(map(len, known))
        for name in sorted(known, key=lambda name: (name.partition(".")[0] if "." in name else "", "")):
            lines.append(f"  {name:<{width}}  {known[name]}")
        return "\n".join(lines)


train = typer.Typer(
    cls=_Group, no_args_is_help=True, rich_markup_mode=None, help="Train a discriminator or a generator."
)

_Config = Annotated[Path, typer.Argument(help="TOML file: what to train and how.", show_default=False)]
_Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="An option that comes before the file's: optimise.steps=500."
    ),
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan: parameters, memory, steps, data.")]


@train.command()
def discriminator(config: _Config, option: _Set = None, dry_run: _DryRun = False) -> None:
    """Stage I: teach a discriminator to tell human from machine annotations.

    A run that was interrupted (Ctrl-C saves) goes on when the same command is given again. Under `accelerate
    launch -m ivm train discriminator CONFIG` it runs on as many devices as that is configured for.
    """
    _train("discriminator", config, option, dry_run)


@train.command()
def generator(config: _Config, option: _Set = None, dry_run: _DryRun = False) -> None:
    """Stage II: train a generator, each sample weighted by the discriminator or as loss.weights says.

    It ends with a folder that `ivm mask --model` takes. A run that was interrupted goes on when the same
    command is given again. Under `accelerate launch -m ivm train generator CONFIG` it runs on as many
    devices as that is configured for.
    """
    _train("generator", config, option, dry_run)


@train.command()
def options(
    stage: Annotated[str, typer.Argument(help="discriminator or generator.")] = "generator",
) -> None:
    """Print a configuration file with every option at its default, each with a line about it."""
    from ivm.errors import OptionError
    from ivm.training.config import STAGES
    from ivm.training.config_file import template

    if stage not in STAGES:
        raise OptionError(f"stage must be one of {', '.join(STAGES)}, but is {stage!r}")
    typer.echo(template(stage), nl=False)


def _train(stage: str, config: Path, option: list[str] | None, dry_run: bool) -> None:
    from ivm.errors import require

    for module in ("torch", "accelerate", "safetensors", "transformers", "onnxscript"):  # now, not at the end
        require(module, "train")
    from ivm.training.config_file import read_config

    asked = read_config(config, stage, option or ())
    if dry_run:
        from ivm.training.plan import make_plan

        typer.echo(make_plan(asked))
        return
    from ivm.training.recipe import train as run

    outcome = run(asked, lambda line: typer.echo(line, err=True))
    if not outcome.finished:
        raise typer.Exit(_INTERRUPTED)
    typer.echo(f"weights: {outcome.weights}")
    if outcome.model is not None:
        typer.echo(f'use it: ivm mask photo.jpg "the red cup" --model {outcome.model}')


def score(
    weights: Annotated[
        Path, typer.Argument(help="Discriminator: a run folder or weights file.", show_default=False)
    ],
    store: Annotated[Path, typer.Argument(help="Folder of a store.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON-lines file; a line a sample.")] = Path(
        "scores.jsonl"
    ),
    histogram: Annotated[
        Path | None, typer.Option(help="Picture of the scores by source.  [default: beside the output]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Instructions scored at once.", min=1)] = 32,
) -> None:
    """Give every sample of a store a weight by a discriminator; draw the histogram by source.

    Interrupt it when you like: the same command goes on where it stopped. ivm data clean --scores takes the
    file.
    """
    from ivm.errors import require

    for module, extra in (("torch", "train"), ("transformers", "train"), ("matplotlib", "data")):
        require(module, extra)
    from ivm.data.records import read_lines
    from ivm.training.score import check_histogram, draw_scores, score_store

    picture = histogram or output.with_suffix(".png")
    check_histogram(picture, output)
    with _progress() as progress:
        count = score_store(weights, store, output, device, batch_size, progress)
    draw_scores((row for _, row in read_lines(output) if isinstance(row, dict)), picture)
    typer.echo(f"{output}: {count:,} samples; {picture}")


def export(
    weights: Annotated[
        str,
        typer.Argument(
            help="Generator: a run folder or weights file. Or a full-size model: its folder, ivm-v1, or the "
            "published file.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
) -> None:
    """Turn trained weights into a folder for ivm mask --model; a finished run has one, called model.

    Of a full-size model, write the mask decoder as mask_decoder.onnx. What is written is compared with torch
    first.
    """
    from ivm.errors import require
    from ivm.models.config import PRESETS, holds_reference

    for module in ("torch", "transformers", "onnxscript"):
        require(module, "train")
    folder = Path(weights)
    ours = (folder / "last.safetensors").is_file()  # a run may have the name of a preset
    if not ours and (
        weights in PRESETS
        or weights.endswith(".bin")
        or (folder / "config.json").is_file()
        or holds_reference(folder)
    ):
        from ivm.models.export_decoder import DECODER_FILE, export_decoder

        parity = export_decoder(weights, output)
        typer.echo(f"{parity}\n{output / DECODER_FILE}")
        return
    from ivm.training.recipe import export as write

    typer.echo(str(write(folder, output, lambda line: typer.echo(line, err=True))))


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr while it is a terminal; None otherwise."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
