"""`ivm annotate`: machine annotations by a panel of experts. Thin; it imports what it needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ivm.endpoint import KEY_VARIABLE, read_key
from ivm.errors import DataError, OptionError
from ivm.model_cli import need, read_options
from ivm.progress import progress, say

if TYPE_CHECKING:
    from ivm.annotation.llm import Llm
    from ivm.annotation.phrases import Simplify
    from ivm.annotation.report import Summary
    from ivm.annotation.sources import Source

__all__ = ["annotate", "read_request"]

_INTERRUPTED = 130
_PREVIEWED = 10  # samples of a dry run, unless --limit says otherwise


def annotate(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder: a store, pictures (with --instruction or a CSV table), or a data set (--reader).",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Argument(help="Folder of the new store; an unfinished one is completed.")],
    experts: Annotated[
        list[str] | None,
        typer.Option(
            help="Preset, folder or hub id, with options: clipseg,weight=0.5 or compact,tiles=2. Repeat it "
            "for a panel.  [default: compact]"
        ),
    ] = None,
    instruction: Annotated[
        list[str] | None,
        typer.Option("--instruction", "-i", help="Asked of every picture of a folder; may be repeated."),
    ] = None,
    reader: Annotated[str, typer.Option(help="Read a data set as ivm data convert does.")] = "",
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="An option of the reader.")
    ] = None,
    llm: Annotated[
        str, typer.Option(help="Name of the LLM that simplifies.  [default: rules, without a network]")
    ] = "",
    url: Annotated[
        str, typer.Option(help="Its OpenAI-compatible server, such as http://localhost:8000/v1.")
    ] = "",
    key_variable: Annotated[
        str, typer.Option(help="Environment variable that holds the server's key, if it needs one.")
    ] = KEY_VARIABLE,
    request: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A further field of each request, such as max_tokens=300; may be repeated.",
        ),
    ] = None,
    ahead: Annotated[int, typer.Option(help="Requests to the LLM at the same time.", min=1, max=256)] = 8,
    answers: Annotated[
        Path | None, typer.Option(help="File of the LLM's answers.  [default: OUTPUT/answers.jsonl]")
    ] = None,
    compose: Annotated[
        int,
        typer.Option(help="Instructions to make for each sample that has a heatmap; 0 leaves it out.", min=0),
    ] = 0,
    whole: Annotated[float, typer.Option(help="Kept area that is nearly the whole picture.")] = 0.95,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FAULT", help="Write these, marked: not-found, nearly-whole-image or disagreement."
        ),
    ] = None,
    proposal_side: Annotated[
        int, typer.Option(help="Longer side at which proposals are kept, in pixels; 0 keeps none.", min=0)
    ] = 256,
    max_side: Annotated[
        int,
        typer.Option(help="Scale larger pictures down to this longer side, in pixels; 0 keeps all.", min=0),
    ] = 0,
    samples_per_shard: Annotated[
        int, typer.Option(help="Most samples in a shard: what an interruption costs at most.", min=1)
    ] = 200,
    limit: Annotated[int, typer.Option(help="Take so many records of the source; 0 takes all.", min=0)] = 0,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show how instructions would be simplified; write and ask nothing."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads.  [default: all]")] = None,
) -> None:
    """Annotate pictures with instructions: simplify, let experts propose, fuse; write shards.

    An instruction is simplified to target phrases, every expert grounds each, and their proposals become one
    soft heatmap. What fails is left out and told in report.jsonl. Interrupt it when you like: the same
    command goes on where it stopped, and asks the LLM nothing twice.
    """
    from ivm.annotation import rules
    from ivm.annotation.annotate import Annotator, annotate_entries
    from ivm.annotation.experts import Panel, open_expert
    from ivm.annotation.report import summarise, write_reliability
    from ivm.annotation.sources import open_source
    from ivm.data.shards import write_shards
    from ivm.data.transforms import limit_sides

    if not llm:
        need(context, ["url", "request", "key_variable", "ahead", "answers"], "--llm, the name of an LLM")
    found = open_source(source, instruction or (), reader, read_options(option), output)
    helper = _open_llm(llm, url, key_variable, request, answers or output / "answers.jsonl")
    simplify = helper.simplify if helper else rules.simplify
    if dry_run:
        _preview(found, helper, limit or _PREVIEWED)
        return
    chosen = experts or ["compact"]
    annotator = Annotator(
        Panel([open_expert(text, device, threads) for text in chosen]),
        simplify,
        (helper.compose if helper else rules.compose) if compose else None,
        max(1, compose),
        whole,
        frozenset(keep or ()),
        proposal_side,
    )
    recipe = {
        "annotation": dict(found.recipe),
        "experts": chosen,
        # The same name may stand for another model by the time that a run goes on.
        "models": [getattr(expert.masking, "fingerprint", None) for expert in annotator.panel.experts],
        "simplifier": f"llm {llm}" if llm else "rules",
        "request": read_request(request) if llm else {},
        "compose": compose,
        "whole": whole,
        "keep": sorted(keep or ()),
        "proposal_side": proposal_side,
        "max_side": max_side,
        "limit": limit,
    }
    entries = islice(found.entries, limit) if limit else found.entries
    entries = limit_sides(entries, max_side) if max_side else entries
    total = min(found.count, limit or found.count) if found.count is not None else None
    try:
        with progress(total, "records") as advance:
            index = write_shards(
                _counted(annotate_entries(entries, annotator, ahead if helper else 0), advance),
                output,
                recipe,
                samples_per_shard=samples_per_shard,
            )
    except KeyboardInterrupt:
        say("interrupted: the same command goes on with the shards that are whole", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    if len(chosen) > 1:
        write_reliability(output, output / "reliability.jsonl")
    _tell(output, summarise(output), index.skipped)


def read_request(given: list[str] | None) -> dict[str, Any]:
    """Fields of a request: values are JSON where they can be read so, else text; null takes a field away.

    Raises:
        OptionError: one is not NAME=VALUE, comes twice, or is ours to give.
    """
    options: dict[str, Any] = {"temperature": 0}
    names = set()
    for one in given or []:
        name, equals, value = one.partition("=")
        if not equals or not name or name in ("model", "messages", "stream"):
            raise OptionError(
                f"a request's field must be NAME=VALUE, such as max_tokens=100, but got {one!r}"
            )
        if name in names:
            raise OptionError(f"the request's field {name} is given twice")
        names.add(name)
        try:
            options[name] = json.loads(value)
            json.dumps(options[name], allow_nan=False)  # 1e999 is read as infinity, which no JSON has
        except ValueError:
            options[name] = value
    return {name: value for name, value in options.items() if value is not None}


def _open_llm(llm: str, url: str, key_variable: str, request: list[str] | None, answers: Path) -> Llm | None:
    if not llm:
        return None
    from ivm.annotation.answers import Answers
    from ivm.annotation.llm import Llm
    from ivm.lmm import LMM

    if not url:
        raise OptionError("--llm needs --url, such as http://localhost:8000/v1")
    chat = LMM(llm, url, api_key=read_key(key_variable), options=read_request(request))
    return Llm(Answers(chat, answers))


def _counted(entries: Iterator[Any], advance: Any) -> Iterator[Any]:
    """The entries; the bar moves with what was asked of the source, whether it was annotated or not."""
    for number, entry in enumerate(entries):
        advance(to=number)
        yield entry


def _preview(source: Source, helper: Llm | None, limit: int) -> None:
    from ivm.annotation.rules import simplify
    from ivm.data.records import Report, load

    report = Report()
    for entry in islice(source.entries, limit):
        for _, record in load(entry, report):
            sample = record.sample
            for text in sample.instructions:
                say(f"{sample.uuid}: {text}")
                if sample.heatmap is not None:
                    say("    has a heatmap: for it, --compose makes instructions")
                elif helper is not None and not helper.knows(text):
                    say(f"    would ask {helper.answers.chat.model}")
                else:
                    say(f"    {_shown(text, helper.simplify if helper else simplify)}")
    for problem in report.problems:
        say(f"left out: {problem}", err=True)
    if source.count is not None and source.count > limit:
        say(f"and {source.count - limit:,} more")


def _shown(text: str, simplify: Simplify) -> str:
    try:
        named = simplify(text)
    except DataError as error:  # an LLM that answered wrong before
        return f"left out: {error}"
    note = f"  ({named.note})" if named.note else ""
    return (" | ".join(named.phrases) or "the whole picture: nothing to ground") + note


def _tell(output: Path, found: Summary, skipped: int) -> None:
    from ivm.annotation.annotate import REASONS

    say(f"{output}: {found.samples:,} samples annotated, {skipped:,} instructions or records left out")
    for reason, number in found.reasons.items():
        say(f"  {number:,} {reason}: {REASONS.get(reason, 'could not be read')}")
    if skipped:
        say(f"  one by one in {output / 'report.jsonl'}")
    for what, number in found.marked.items():
        say(f"  {number:,} of those written {what}")
    if found.reliability is not None:
        say(f"  reliability {found.reliability:.2f} on the mean, each in {output / 'reliability.jsonl'}")
