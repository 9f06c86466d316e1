"""`ivm data`: bring samples, make them, look at them. Thin; a command imports what it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ivm.model_cli import need, read_options

if TYPE_CHECKING:
    from ivm.types import Sample

__all__ = ["data"]

# Options of clean -> the rules that go by them.
_JUDGES = {
    ("whole",): ("nearly-whole-image",),
    ("speck",): ("speck",),
    ("agree",): ("disagreement",),
    ("people",): ("nearly-whole-image", "speck", "border-only", "low-score"),
    ("scores", "min_score"): ("low-score",),
}

data = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Bring samples, make them, look at them."
)


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
    typer.echo(f"{output}: {index.samples:,} samples in {_many(len(index.shards), 'shard')} ({kinds})")


@data.command()
def convert(
    reader: Annotated[
        str, typer.Argument(help="Form of the source: see ivm data readers.", show_default=False)
    ],
    source: Annotated[Path, typer.Argument(help="Folder of the source.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the store; an unfinished one is completed."),
    ],
    option: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of the reader; may be repeated."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first wrong record.")] = False,
    image_format: Annotated[
        str, typer.Option(help="png, webp or jpeg: of pictures that cannot be kept as they are.")
    ] = "png",
    heatmap_bits: Annotated[int, typer.Option(help="8 or 16; a mask always takes 1.")] = 8,
    samples_per_shard: Annotated[int, typer.Option(help="Most samples in a shard.", min=1)] = 1000,
    max_side: Annotated[
        int,
        typer.Option(help="Scale larger pictures down to this longer side, in pixels; 0 keeps all.", min=0),
    ] = 0,
) -> None:
    """Write a published data set, or your own, to shards.

    Wrong records are left out and told in report.jsonl. Interrupt it when you like: the same command goes on
    where it stopped, and ends in the same bytes. A source that has changed since needs another folder.
    """
    from ivm.data.layout import Encoding
    from ivm.data.readers import entries
    from ivm.data.readers.files import fingerprint
    from ivm.data.shards import write_shards
    from ivm.data.transforms import limit_sides

    options = read_options(option)
    found = entries(reader, source, options)
    recipe = {"reader": reader, "source": source.resolve().name, "options": options, "max_side": max_side}
    recipe["content"] = fingerprint(source, output)
    with _progress() as progress:
        index = write_shards(
            limit_sides(found, max_side) if max_side else found,
            output,
            recipe,
            strict,
            Encoding(image_format, heatmap_bits=heatmap_bits),
            samples_per_shard,
            progress=(lambda done: progress(done, None)) if progress else None,
        )
    counts = ", ".join(f"{number:,} {name}" for name, number in index.counts.items())
    typer.echo(
        f"{output}: {index.samples:,} samples in {_many(len(index.shards), 'shard')} ({counts or 'none'})"
    )
    if index.skipped:
        typer.echo(
            f"{_many(index.skipped, 'wrong record')} left out: see {output / 'report.jsonl'}", err=True
        )


def _many(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("s" if number != 1 else "")


@data.command()
def readers() -> None:
    """List the forms that convert reads, with their options."""
    import inspect
    import re

    from ivm.data.readers import READERS, reader

    for name in READERS:
        function = reader(name)
        title = (inspect.getmodule(function).__doc__ or "").partition("\n")[0]
        doc = inspect.getdoc(function) or ""
        typer.echo(f"{name}\n    {title}\n    {doc.partition(chr(10))[0]}")
        options = re.split(r"\n    (?=\w+: )", "\n" + doc.partition("Args:\n")[2].partition("\n\n")[0])
        for option in options[1:]:
            key, _, told = option.partition(": ")
            if key != "root":
                typer.echo(f"    --set {key}=  {' '.join(told.split()).replace('`root`', 'the folder')}")


@data.command()
def preview(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of a store, spec file (.toml, .json), or folder of a source with --reader.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Page (.html) or picture (.png) to write.")
    ] = Path("preview.html"),
    count: Annotated[int, typer.Option("--count", "-n", help="Samples to show.", min=1, max=1000)] = 40,
    seed: Annotated[int, typer.Option(help="Which samples: of a spec, or drawn from a store.", min=0)] = 0,
    reader: Annotated[str, typer.Option(help="Read a source as convert does; its first samples.")] = "",
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="An option of the reader.")
    ] = None,
    uuids: Annotated[
        Path | None, typer.Option(help="Show only the uuids in this JSON-lines file (bumps.jsonl, ...).")
    ] = None,
    columns: Annotated[int, typer.Option(help="Pictures a row, of a picture.", min=1, max=20)] = 5,
    cell: Annotated[int, typer.Option(help="Longer side of each sample, in pixels.", min=64, max=1024)] = 256,
) -> None:
    """Draw a contact sheet of samples: a page with heatmaps and instructions, or one picture.

    Of a spec, one sample of each scene is shown, made on the spot.
    """
    from ivm.data.records import Report
    from ivm.data.records import samples as load_samples
    from ivm.errors import OptionError, OutputError

    if output.suffix.lower() == ".html":
        need(context, ["columns"], "a picture (.png): a page has as many as fit")
    if reader or uuids:
        need(context, ["seed"], "a spec or a whole store: it draws samples")
    if reader or not source.is_dir():
        need(context, ["uuids"], "a store, without --reader")
    report = Report()
    if reader:
        from ivm.data.readers import entries

        samples = load_samples(entries(reader, source, read_options(option)), report)
    elif option:
        raise OptionError("--set needs --reader: it is an option of a reader")
    elif source.is_dir():
        samples = _of_store(source, count, seed, uuids)
    else:
        samples = _of_spec(source, seed)
    if output.suffix.lower() == ".html":
        from ivm.data.preview import preview_page

        preview_page(samples, output, count, cell, title=source.resolve().name)
    elif output.suffix.lower() == ".png":
        from ivm.data.sheet import contact_sheet
        from ivm.images import write_image

        write_image(contact_sheet(samples, count, columns, cell), output)
    else:
        raise OutputError(f"output must end in .html or .png, but is {output.name!r}")
    for problem in report.problems:
        typer.echo(f"left out: {problem}", err=True)
    typer.echo(str(output))


@data.command()
def stats(
    stores: Annotated[list[Path], typer.Argument(help="Folders of stores, told as one.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the plots.")] = Path("stats"),
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
) -> None:
    """Draw kept areas by source, instructions and targets; name abnormal bumps and list their samples."""
    from ivm.data.measure import measure
    from ivm.data.stats import summarise, write_statistics
    from ivm.data.stream import ShardReader

    found = summarise(chain.from_iterable(measure(ShardReader(store), workers) for store in stores))
    files = write_statistics(found, output, ", ".join(store.resolve().name for store in stores))
    typer.echo(f"{found.samples:,} samples of {found.images:,} pictures")
    for name, number in found.sources.items():
        typer.echo(f"  {number:,} {name}")
    for what, number in (
        ("without a heatmap", found.without_heatmap),
        ("pairs of pictures that look alike", len(found.look_alike_images)),
        ("pictures annotated repeatedly with one instruction", found.repeated_annotations),
    ):
        if number:
            typer.echo(f"  {number:,} {what}")
    for bump in found.bumps:
        typer.echo(
            f"abnormal: {bump.samples:,} samples of {bump.source} keep {bump.low:.0%} to {bump.high:.0%} "
            f"of the picture, where about {bump.expected:,.0f} would be expected"
        )
    typer.echo("wrote " + ", ".join(str(path) for path in files))


@data.command()
def clean(
    context: typer.Context,
    store: Annotated[Path, typer.Argument(help="Folder of a store; with --undo, one that clean wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new store.")],
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this rule; may be repeated.  [default: all]"),
    ] = None,
    whole: Annotated[float, typer.Option(help="Kept area that is nearly the whole image.")] = 0.95,
    speck: Annotated[float, typer.Option(help="Kept area below which it is a speck.")] = 0.0001,
    agree: Annotated[float, typer.Option(help="Overlap below which repeated annotations disagree.")] = 0.5,
    people: Annotated[
        bool,
        typer.Option("--people", help="Apply the rules about areas and scores to human annotations, too."),
    ] = False,
    scores: Annotated[
        Path | None, typer.Option(help="File that ivm score or ivm annotate wrote of this store.")
    ] = None,
    min_score: Annotated[
        float, typer.Option(help="Score below which a machine annotation is dropped.")
    ] = 0.1,
    undo: Annotated[
        bool, typer.Option("--undo", help="Put back what clean dropped from STORE (by --rule).")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
) -> None:
    """Write the samples that no rule drops to a new store, and beside them those dropped, with the reason.

    The store itself is never changed, and --undo puts everything back.
    """
    from ivm.data.clean import RULES, Limits, read_scores, restore
    from ivm.data.clean import clean as drop
    from ivm.errors import OptionError

    rules = tuple(rule) if rule else tuple(RULES)
    if undo:
        options = ["whole", "speck", "agree", "people", "scores", "min_score", "workers"]
        need(context, options, "a store to clean, not --undo")
        index = restore(store, output, rules)
        typer.echo(f"{output}: {index.samples:,} samples")
        return
    if "low-score" in (rule or []) and scores is None:
        raise OptionError("the rule low-score needs --scores, a file that ivm score wrote")
    if scores is None:
        need(context, ["min_score"], "--scores, a file that ivm score wrote")
    for names, judge in _JUDGES.items():
        if not {*judge} & {*rules}:
            need(context, names, f"the rule {' or '.join(judge)}")
    limits = Limits(whole, speck, agree=agree, people=people, min_score=min_score)
    given = None if scores is None else read_scores(scores)
    kept, counts = drop(store, output, rules, limits, workers, given)
    typer.echo(f"{output}: {kept.samples:,} samples kept, {counts.total():,} dropped")
    for name in rules:
        typer.echo(f"  {counts[name]:,} {name}: {RULES[name]}")
    if unknown := sum(score is None for score in (given or {}).values()):
        typer.echo(f"{_many(unknown, 'sample')} without a score: not judged by low-score")


@data.command()
def split(
    store: Annotated[Path, typer.Argument(help="Folder of a store.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the parts.")],
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SHARE", help="A part; repeat it.  [default: train=0.9 val=0.05 test=0.05]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives another split.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
) -> None:
    """Split a store by picture; pictures that look alike stay together."""
    from ivm.data.split import split as divide
    from ivm.errors import OptionError

    shares = {}
    for name, value in read_options(part or ["train=0.9", "val=0.05", "test=0.05"]).items():
        try:
            shares[name] = float(value)
        except ValueError:
            raise OptionError(f"the share of {name} must be a number, but got {value!r}") from None
    for name, index in divide(store, output, shares, seed, workers).items():
        typer.echo(f"{output / name}: {index.samples:,} samples")


@data.command()
def leaks(
    stores: Annotated[list[Path], typer.Argument(help="Folders of two or more stores.", show_default=False)],
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
) -> None:
    """Look for pictures that are in two of the stores; exit code 1 if there are any."""
    from ivm.data.measure import measure
    from ivm.data.split import find_leaks
    from ivm.data.stream import ShardReader
    from ivm.errors import OptionError

    if len(stores) < 2 or len({store.resolve() for store in stores}) < len(stores):
        told = ", ".join(map(str, stores))
        raise OptionError(f"leaks are looked for between two or more different stores, but got {told}")
    found = find_leaks({str(store): measure(ShardReader(store), workers) for store in stores})
    for leak in found:
        typer.echo(f"{leak.image_id} in {leak.first}, {leak.other} in {leak.second}: {leak.why}")
    typer.echo(f"{_many(len(found), 'picture')} in two stores")
    if found:
        raise typer.Exit(1)


@data.command()
def verify(
    store: Annotated[Path, typer.Argument(help="Folder of a store.", show_default=False)],
    checksums_only: Annotated[bool, typer.Option(help="Read every byte, decode nothing.")] = False,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
) -> None:
    """Check every byte and every sample of a store; exit code 1 if something is wrong."""
    from ivm.data.verify import verify as check

    with _progress() as progress:
        found = check(
            store, workers, checksums_only, (lambda done: progress(done, None)) if progress else None
        )
    for problem in found.problems:
        typer.echo(f"error: {problem}", err=True)
    typer.echo(
        f"{store}: {found.samples:,} samples, {found.bytes / 1e6:,.0f} MB, {len(found.problems)} problems"
    )
    if found.problems:
        raise typer.Exit(1)


def _of_spec(path: Path, seed: int) -> Iterator[Sample]:
    from ivm.data.synthesis import Synthesis
    from ivm.data.synthesis_spec import read_spec

    with Synthesis(read_spec(path), seed) as synthesis:
        index = 0
        while True:
            samples = synthesis.samples(index)
            yield samples[index % len(samples)]
            index += 1


def _of_store(folder: Path, count: int, seed: int, uuids: Path | None) -> Iterator[Sample]:
    import numpy as np

    from ivm.data.layout import key_of
    from ivm.data.stream import ShardReader, ShardSet

    store = ShardSet(folder)
    if uuids is None:
        chosen = np.random.default_rng(seed).permutation(len(store))[:count]
        for number in sorted(int(k) for k in chosen):
            yield store[number]
        return
    wanted = {key_of(uuid) for uuid in _listed(uuids)}
    reader = ShardReader(folder)
    for shard in range(len(reader.index.shards)):
        for number, key in enumerate(reader.keys(shard)):
            if key in wanted:
                yield store.get(shard, number)


def _listed(path: Path) -> Iterator[str]:
    """The uuids in a JSON-lines file, as "uuid" or "uuids"."""
    from ivm.data.records import read_lines
    from ivm.errors import DataError

    for line, item in read_lines(path):
        listed = item.get("uuids", [item.get("uuid")]) if isinstance(item, dict) else None
        if not isinstance(listed, list) or None in listed:
            raise DataError(f"{path}:{line}: must have 'uuid' or a list 'uuids'")
        yield from map(str, listed)


@contextmanager
def _progress() -> Iterator[Callable[[int, int | None], None] | None]:
    """A bar with rate and time left on stderr while it is a terminal; None otherwise."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(30), MofNCompleteColumn(), TextColumn("samples"), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, rate="")

        def show(done: int, total: int | None) -> None:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:.0f}/s" if speed else "")

        yield show
