"""`ivm data`: make samples and look at them. Thin; a command imports what it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ivm.types import Sample

__all__ = ["data"]

data = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make samples, and look at them.")


@data.command()
def synthesize(
    spec: Annotated[Path, typer.Argument(help="TOML or JSON file: what to make.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the store; an unfinished one is completed."),
    ],
    count: Annotated[int, typer.Option("--count", "-n", help="Samples to make.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Another seed gives other samples.", min=0)] = 0,
    workers: Annotated[
        int, typer.Option(help="Processes; the samples are the same for any number.", min=1)
    ] = 1,
) -> None:
    """Make scenes with instructions and masks; write shards.

    The same spec, seed and count give the same files, byte for byte. Interrupt it when you like: the same
    command goes on where it stopped.
    """
    from ivm.data.synthesis import synthesize as make
    from ivm.data.synthesis_spec import read_spec

    with _progress() as progress:
        index = make(read_spec(spec), count, seed, output, workers, progress)
    kinds = ", ".join(f"{number:,} {name.removesuffix(', human')}" for name, number in index.counts.items())
    typer.echo(f"{output}: {index.samples:,} samples in {len(index.shards):,} shards ({kinds})")


@data.command()
def preview(
    source: Annotated[
        Path, typer.Argument(help="Spec file (.toml, .json), or folder of a store.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write.")] = Path("preview.png"),
    count: Annotated[int, typer.Option("--count", "-n", help="Samples to show.", min=1, max=400)] = 40,
    seed: Annotated[int, typer.Option(help="Which samples: of a spec, or drawn from a store.", min=0)] = 0,
    columns: Annotated[int, typer.Option(help="Pictures a row.", min=1, max=20)] = 5,
    cell: Annotated[
        int, typer.Option(help="Longer side of each picture, in pixels.", min=64, max=1024)
    ] = 256,
) -> None:
    """Draw a contact sheet of samples.

    Pictures with their masks outlined and their instructions below. Of a spec, one sample of each scene is
    shown, made on the spot.
    """
    from ivm.data.sheet import contact_sheet
    from ivm.images import write_image

    samples = _of_store(source, count, seed) if source.is_dir() else _of_spec(source, seed)
    write_image(contact_sheet(samples, count, columns, cell), output)
    typer.echo(str(output))


def _of_spec(path: Path, seed: int) -> Iterator[Sample]:
    from ivm.data.synthesis import Synthesis
    from ivm.data.synthesis_spec import read_spec

    with Synthesis(read_spec(path), seed) as synthesis:
        index = 0
        while True:
            samples = synthesis.samples(index)
            yield samples[index % len(samples)]
            index += 1


def _of_store(folder: Path, count: int, seed: int) -> Iterator[Sample]:
    import numpy as np

    from ivm.data.stream import ShardSet

    store = ShardSet(folder)
    chosen = np.random.default_rng(seed).permutation(len(store))[:count]
    for number in sorted(int(k) for k in chosen):
        yield store[number]


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar with rate and time left on stderr while it is a terminal; None otherwise."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(30), MofNCompleteColumn(), TextColumn("samples"), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, rate="")

        def show(done: int, total: int) -> None:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:.0f}/s" if speed else "")

        yield show
