"""`ivm eval`: how good masks are, and what masking does to the answers of an LMM. Thin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ivm.annotation_cli import read_request
from ivm.endpoint import KEY_VARIABLE, read_key, same_server
from ivm.errors import DataError, OptionError, OutputError
from ivm.model_cli import Device, Model, ModelOptions, Threads, Threshold, open_masker, read_options
from ivm.progress import progress, say

if TYPE_CHECKING:
    from rich.console import Console

    from ivm.evaluation.masks import MaskReport
    from ivm.evaluation.questions import Question
    from ivm.evaluation.scoring import Judge
    from ivm.evaluation.vqa import Setup
    from ivm.lmm import LMM

__all__ = ["evaluate"]

_INTERRUPTED, _FAILED = 130, 1

evaluate = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Measure masks, and what they do to an LMM's answers."
)


@evaluate.command()
def masks(
    data: Annotated[
        Path,
        typer.Argument(help="Folder with annotations.json (COCO format) and images/.", show_default=False),
    ],
    model: Model = "compact",
    split: Annotated[
        str, typer.Option(help="Photos to ask about, by their names: train, val, test (15 %) or all.")
    ] = "test",
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Ask only this kind of question; may be repeated.  [default: all kinds]"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Ask about so many photos.  [default: all]", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses phrasings and absent names.", min=0)] = 0,
    threshold: Threshold = None,
    baselines: Annotated[bool, typer.Option(help="Measure the trivial baselines beside it.")] = True,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write all figures as JSON.")
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    model_option: ModelOptions = None,
) -> None:
    """Ask about photos with known masks, and print how good the answers are.

    Figures are given by kind of instruction, with 95 % intervals clustered by photo, beside three trivial
    baselines: the whole image, an ellipse in its centre, and the colours that the instruction names.
    """
    from ivm.data.packs import read_pack
    from ivm.evaluation.masks import evaluate_masks, pack_questions
    from ivm.types import check_threshold

    if threshold is not None:
        check_threshold(threshold)
    _check_output(output)
    left_out: list[str] = []
    pack = read_pack(data)
    masker = open_masker(model, device, threads, model_option)
    samples = pack_questions(pack, split, seed, kinds=kind or None, limit=limit, left_out=left_out)
    with progress(None, "questions") as advance:
        report = evaluate_masks(
            samples,
            masker,
            model=masker.name,
            data=pack.name,
            split=split,
            seed=seed,
            threshold=threshold,
            baselines=baselines,
            left_out=left_out,
            progress=lambda done: advance(to=done),
        )
    _tell(report, output)


@evaluate.command()
def expressions(
    source: Annotated[
        Path,
        typer.Argument(help="Folder of a store; with --reader, of a published data set.", show_default=False),
    ],
    reader: Annotated[
        str,
        typer.Option(help="Form of the data set, such as refer: see ivm data readers.", show_default=False),
    ] = "",
    option: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of the reader; may be repeated."),
    ] = None,
    model: Model = "compact",
    limit: Annotated[int | None, typer.Option(help="Only the first so many samples.", min=1)] = None,
    threshold: Threshold = None,
    baselines: Annotated[bool, typer.Option(help="Measure the trivial baselines beside it.")] = True,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write all figures as JSON.")
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    model_option: ModelOptions = None,
) -> None:
    """Ask for every sentence of RefCOCO and its relatives, or of a store, and compare with the masks.

    gIoU, cIoU, P@0.5 and the accuracy of boxes, with 95 % intervals clustered by photo. Wrong records are
    left out and told.
    """
    from itertools import islice

    from ivm.evaluation.expressions import one_each, read_expressions
    from ivm.evaluation.masks import evaluate_masks
    from ivm.types import check_threshold

    if threshold is not None:
        check_threshold(threshold)
    _check_output(output)
    if option and not reader:
        raise OptionError("--set is for a reader: name it by --reader")
    given = read_options(option)
    left_out: list[str] = []
    samples = islice(read_expressions(source, reader, given, left_out), limit)
    masker = open_masker(model, device, threads, model_option)
    with progress(None, "expressions") as advance:
        report = evaluate_masks(
            one_each(samples),
            masker,
            model=masker.name,
            data=source.resolve().name,
            split=given.get("split", "all"),
            threshold=threshold,
            baselines=baselines,
            left_out=left_out,
            progress=lambda done: advance(to=done),
        )
    _tell(report, output)


def _check_output(output: Path | None) -> None:
    """Before the work, not after it."""
    if output is not None and not output.parent.is_dir():
        raise OutputError(f"cannot write {str(output)!r}: there is no folder {str(output.parent)!r}")


def _console() -> Console:
    """For tables: what the output's encoding lacks, as some the sign of intervals, must not break them."""
    from rich.console import Console

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    return Console()


def _tell(report: MaskReport, output: Path | None) -> None:
    from ivm.evaluation.masks import print_report

    try:
        print_report(report, _console())
    finally:  # whatever becomes of the one, hours of work are in the other
        if output is not None:
            report.save(output)
            say(str(output))
    if not report.complete:
        raise typer.Exit(_INTERRUPTED)


@evaluate.command()
def benchmarks() -> None:
    """List the benchmarks that vqa reads: where they are published, their files, their scoring."""
    from ivm.evaluation.questions import BENCHMARKS

    for name, one in BENCHMARKS.items():
        say(f"{name}: {one.title}\n    {one.address}\n    {one.tree}\n    {one.scoring}")


@evaluate.command()
def vqa(
    benchmark: Annotated[
        str, typer.Argument(help="Form of the questions: see ivm eval benchmarks.", show_default=False)
    ],
    source: Annotated[
        Path, typer.Argument(help="Folder of the benchmark, or its question file.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of answers and report.  [default: BENCHMARK-vqa]"),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the photos, if they lie elsewhere.", show_default=False)
    ] = None,
    lmm: Annotated[
        str | None, typer.Option(help="Name of the LMM on its server.", envvar="IVM_LMM", show_default=False)
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible server, such as http://localhost:8000/v1.",
            envvar="IVM_LMM_URL",
            show_default=False,
        ),
    ] = None,
    key_variable: Annotated[
        str, typer.Option(help="Environment variable that holds the server's key, if it needs one.")
    ] = KEY_VARIABLE,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            "--mode", "-m", help="Deployment mode, as in ivm mask; may be repeated.  [default: overlay+crop]"
        ),
    ] = None,
    show: Annotated[str, typer.Option(help="What is sent in these modes: masked or both.")] = "masked",
    model: Model = "compact",
    threshold: Threshold = None,
    tiles: Annotated[str | None, typer.Option(help="As in ivm mask.")] = None,
    longest: Annotated[
        int, typer.Option(help="Longer side of what is sent, masked or not, in pixels; 0 sends all.", min=0)
    ] = 2048,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only this kind of question; may be repeated.  [default: all]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Ask so many questions, drawn by seed.  [default: all]", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the questions that --limit draws.", min=0)] = 0,
    request: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A field of every request; may be repeated.  [default: temperature=0]"
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 120.0,
    retries: Annotated[int, typer.Option(help="Further tries when the server is busy or silent.", min=0)] = 2,
    parallel: Annotated[int, typer.Option(help="Requests under way at once.", min=1, max=64)] = 1,
    judge: Annotated[
        str | None, typer.Option(help="LLM that judges answers in words, by its name on the server.")
    ] = None,
    judge_url: Annotated[
        str | None, typer.Option(help="Its server.  [default: --url]", show_default=False)
    ] = None,
    judge_key_variable: Annotated[
        str | None,
        typer.Option(
            help="Variable of its key.  [default: --key-variable, on the same server]", show_default=False
        ),
    ] = None,
    judge_file: Annotated[
        Path | None, typer.Option(help="EgoThink's judge_prompts.jsonl.  [default: beside SOURCE, else ours]")
    ] = None,
    prices: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Of a million tokens sent and received.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Mask, tell how much would be asked, and ask nobody.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    model_option: ModelOptions = None,
) -> None:
    """Ask an LMM the same questions with masking off and on, and compare.

    Each answer is kept in the folder when it comes: interrupt when you like, and the same command goes on,
    without asking anything twice. Keys are read from environment variables.
    """
    from ivm.evaluation.questions import choose, read_questions
    from ivm.evaluation.vqa import Setup
    from ivm.lmm import LMM
    from ivm.tiles import parse_tiles

    if not dry_run and (lmm is None or url is None):
        raise OptionError("an LMM and its server must be given (--lmm, --url), or --dry-run")
    options = read_request(request)
    client = LMM(
        lmm or "-",
        url or "http://localhost",
        api_key=read_key(key_variable),
        timeout=timeout,
        retries=retries,
        options=options,
    )
    known = read_questions(benchmark, source, images)
    questions = choose(known, kind or (), limit, seed)
    _check_pictures(questions)
    judging: tuple[LMM, Judge] | None = None
    if judge is not None:
        if not any(question.rule == "judge" for question in known):
            raise OptionError(f"--judge is for answers in words, but no question of {source} needs a judge")
        same = judge_url is None or same_server(judge_url, client.base_url)
        variable = judge_key_variable or (key_variable if same else None)
        by = LMM(
            judge,
            judge_url or client.base_url,
            api_key=read_key(variable) if variable else None,  # a key goes to no other server by itself
            timeout=timeout,
            retries=retries,
            options={"temperature": 0},
        )
        judging = by, _judge_words(judge_file, source)
    elif judge_file is not None or judge_url is not None or judge_key_variable is not None:
        raise OptionError("--judge must name the judging LLM where another option of --judge-... is given")
    setup = Setup(
        client,
        open_masker(model, device, threads, model_option),
        tuple(mode or ("overlay+crop",)),
        show,
        threshold,
        parse_tiles(tiles),
        longest,
        " ".join([model, *sorted(model_option or [])]),
    )
    folder = output or Path(f"{benchmark}-vqa")
    if dry_run:
        _look(questions, setup, folder)
        return
    settings = {
        "benchmark": benchmark,
        "source": source.resolve().name,
        "kinds": kind or [],
        "limit": limit,
        "seed": seed,
        "prices": prices,
    }
    _ask(questions, setup, judging, folder, parallel, settings)


def _judge_words(file: Path | None, source: Path) -> Judge:
    """The publisher's own words where they lie: in a clone of EgoThink, beside the folder of questions."""
    from ivm.evaluation.scoring import OWN_JUDGE, read_judge

    beside = [source / "judge_prompts.jsonl", source.resolve().parent / "judge_prompts.jsonl"]
    found = file or next((path for path in beside if path.is_file()), None)
    return read_judge(found) if found is not None else OWN_JUDGE


def _check_pictures(questions: list[Question]) -> None:
    """A few missing photos are errors of their questions; if all are, the folder is wrong."""
    if not any(question.image.exists() for question in questions):
        raise DataError(
            f"none of the pictures is there, such as {questions[0].image}: --images must name their folder"
        )


def _look(questions: list[Question], setup: Setup, folder: Path) -> None:
    from ivm.evaluation.vqa import look
    from ivm.evaluation.vqa_report import print_looks, summarise

    total = len(questions) * len(setup.conditions)
    with progress(total, "masked") as advance:
        seen, requests = look(questions, setup, folder, lambda done: advance(to=done))
    faults = [one for one in seen if one.error]
    say(
        f"{len(questions)} questions about {len({q.image_id for q in questions})} pictures, "
        f"{len(setup.conditions)} conditions ({', '.join(setup.conditions)}): {requests} requests to send"
    )
    print_looks(summarise(seen), _console())
    broken = {one.question.id: one.error for one in faults}
    for name, error in list(broken.items())[:5]:
        say(f"{name}: {error}", err=True)
    if broken:
        say(f"{len(broken)} questions have no readable picture, or cannot be masked", err=True)
        raise typer.Exit(_FAILED)


def _ask(
    questions: list[Question],
    setup: Setup,
    judging: tuple[LMM, Judge] | None,
    folder: Path,
    parallel: int,
    settings: dict[str, Any],
) -> None:
    from ivm.errors import LMMError
    from ivm.evaluation.vqa import ask, judge, outcomes
    from ivm.evaluation.vqa_report import make_report, print_report, save_report

    def tell(text: str) -> None:
        say(text, err=True)

    total, stopped, down = len(questions) * len(setup.conditions), False, None
    judged = judging is not None and any(question.rule == "judge" for question in questions)
    try:
        with progress(total, "answers") as advance:
            ask(
                questions,
                setup,
                folder,
                parallel=parallel,
                progress=lambda done: advance(to=done),
                tell=tell,
            )
        if judging is not None and judged:
            with progress(None, "judged") as advance:
                judge(
                    questions,
                    setup,
                    folder,
                    *judging,
                    parallel=parallel,
                    progress=lambda done: advance(to=done),
                    tell=tell,
                )
    except KeyboardInterrupt:
        stopped = True
    except LMMError as error:
        down = error
    found = outcomes(questions, setup, folder, *(judging or ()))
    report = make_report(found, setup, judging if judged else None, settings)
    try:
        if any(one.state == "answered" for one in found):
            print_report(report, _console())
    finally:
        save_report(report, found, folder)
    say(str(folder / "report.json"))
    if down is not None:
        raise down
    if stopped:
        say("interrupted: the same command goes on from there, and asks nothing twice", err=True)
        raise typer.Exit(_INTERRUPTED)
    if not report["complete"]:
        raise typer.Exit(_FAILED)
