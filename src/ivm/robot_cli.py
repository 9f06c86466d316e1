"""`ivm robot record`, `train`, `rollout`. Thin; a command imports what it needs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ivm.model_cli import need
from ivm.progress import progress, say

__all__ = ["robot"]

_INTERRUPTED = 130

robot = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Robots: record demonstrations, train a policy on masked pictures, roll it out.",
)

_Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="reach, push, pick or place; may be repeated.  [default: all four]"),
]


@robot.command()
def record(
    folder: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    episodes: Annotated[int, typer.Option(help="Demonstrations that the folder is to hold.", min=1)] = 100,
    task: _Tasks = None,
    distractors: Annotated[str, typer.Option(help="Things in the way: a number, or fewest-most.")] = "3-7",
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels, 32 to 512.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the first episode; the others follow.", min=0)] = 0,
    noise: Annotated[
        float, typer.Option(help="Shakes what the expert does; it then shows how to correct.")
    ] = 0.1,
) -> None:
    """Record demonstrations of a scripted expert at a table.

    Interrupt it when you like: the same command goes on where it stopped. What the expert does not solve is
    left out, and counted.
    """
    _need("gymnasium", "mujoco", "torch")
    from ivm.robot.demonstrations import Setup
    from ivm.robot.demonstrations import record as run
    from ivm.robot.tasks import TASKS

    setup = Setup(tuple(task or TASKS), _range(distractors), size=size)
    with progress(episodes, "demonstrations") as advance:
        found = run(folder, setup, episodes, seed, noise, lambda done, _: advance(to=done))
    counts = f"{found.made} recorded" + (f", {found.before} there before" if found.before else "")
    say(f"{folder}: {counts}" + (f", {found.failed} not solved by the expert" if found.failed else ""))
    if not found.finished:
        raise typer.Exit(_INTERRUPTED)


@robot.command()
def train(
    context: typer.Context,
    demonstrations: Annotated[Path, typer.Argument(help="Folder of ivm robot record.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    masker: Annotated[
        str,
        typer.Option(
            "--masker",
            help="Masks its pictures: a preset (see: ivm models) or folder; none; or environment, the "
            "simulation's true masks.",
        ),
    ] = "compact",
    mode: Annotated[str, typer.Option("--mode", "-m", help="Deployment mode.")] = "overlay",
    every: Annotated[int, typer.Option(help="The masker looks at every so manieth picture.", min=1)] = 4,
    threshold: Annotated[float, typer.Option(help="Of masks at test; in training it is random.")] = 0.6,
    steps: Annotated[int, typer.Option(help="Of training.", min=1)] = 3000,
    batch: Annotated[int, typer.Option(help="Moments in a batch.", min=1)] = 64,
    rate: Annotated[float, typer.Option(help="Greatest learning rate.")] = 1e-3,
    picture: Annotated[int, typer.Option(help="Side to which the policy's pictures are resized.")] = 64,
    width: Annotated[int, typer.Option(help="Channels of its networks' first stage.")] = 16,
    hidden: Annotated[int, typer.Option(help="Width of what takes noise from actions.")] = 256,
    horizon: Annotated[int, typer.Option(help="Actions of a chunk.")] = 8,
    execute: Annotated[int, typer.Option(help="Of these, carried out before it looks again.")] = 4,
    seed: Annotated[int, typer.Option(help="Of weights, batches and noise.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads.  [default: all]", min=1)] = None,
) -> None:
    """Train a diffusion policy on demonstrations (LCBC), on masked pictures.

    The masks vary at random in threshold and size while it trains; they are made in the same way when it is
    rolled out. A run that was interrupted (Ctrl-C saves) goes on when the same command is given again.
    """
    _need("gymnasium", "mujoco", "torch", "safetensors")
    import torch

    from ivm.masker import load
    from ivm.robot.cloning import train_policy
    from ivm.robot.config import TRUE_MASKS, UNMASKED, CloningConfig, PolicyConfig

    if masker == UNMASKED:
        need(context, ("mode", "every", "threshold"), "a --masker other than none")
    elif masker == TRUE_MASKS:  # they are true of every picture
        need(context, ("every",), "a --masker that is a model")
    if threads is not None:
        torch.set_num_threads(threads)
    policy = PolicyConfig(picture, width, hidden, horizon=horizon, execute=execute)
    config = CloningConfig(
        masker,
        mode,
        every,
        threshold=threshold,
        steps=steps,
        batch=batch,
        rate=rate,
        seed=seed,
        policy=policy,
    )
    with progress(steps, "steps") as advance:
        found = train_policy(
            demonstrations,
            output,
            config,
            partial(say, err=True),
            lambda done, _: advance(to=done),
            partial(load, threads=threads),
            device,
        )
    say(f"step {found.steps}: loss {found.loss:.4f}, on demonstrations left out {found.held_out:.4f}")
    if not found.finished:
        raise typer.Exit(_INTERRUPTED)
    say(f"weights: {found.weights}")


@robot.command()
def rollout(
    policies: Annotated[
        list[str],
        typer.Argument(help="Folders of ivm robot train, to be compared; or expert.", show_default=False),
    ],
    episodes: Annotated[int, typer.Option(help="For each policy and condition.", min=1)] = 50,
    task: _Tasks = None,
    distractors: Annotated[
        str | None, typer.Option(help="Number, or fewest-most.  [default: as it was trained]")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(help="cleared or distractors; may be repeated.  [default: both]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first episode; the others follow.", min=0)] = 1_000_000,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="JSON-lines file; a line an episode.")
    ] = Path("rollouts.jsonl"),
    threads: Annotated[int | None, typer.Option(help="CPU threads.  [default: all]", min=1)] = None,
) -> None:
    """Try policies on the same tables, cleared and with distractors; print how often they succeed.

    Each sees pictures masked as in its training. Rates come with 95 % intervals (Wilson). Interrupt it when
    you like: the same command goes on where it stopped. What the file holds of a policy trained or masked in
    another way does not count.
    """
    _need("gymnasium", "mujoco", "torch", "safetensors")
    from dataclasses import replace

    import torch

    from ivm.errors import OptionError
    from ivm.masker import load
    from ivm.robot.rollouts import CONDITIONS, EXPERT, load_actor, roll_out, summarise

    if threads is not None:
        torch.set_num_threads(threads)
    loaded = [load_actor(name) for name in policies]
    setups = [setup for (_, setup), name in zip(loaded, policies, strict=True) if name != EXPERT]
    setup = setups[0] if setups else loaded[0][1]
    tasks = {one.tasks if task is None else () for one in setups}
    rest = {replace(one, distractors=(0, 0), tasks=()) for one in setups}
    spread = {one.distractors if distractors is None else () for one in setups}
    if len(tasks) > 1 or len(rest) > 1 or len(spread) > 1:
        raise OptionError(
            "policies that are compared must be trained on the same pictures and things, on the same tasks "
            "unless --task says which to try, and among as many distractors unless --distractors says how "
            "many, but these were not"
        )
    changes: dict[str, object] = {"tasks": tuple(task)} if task else {}
    if distractors is not None:
        changes["distractors"] = _range(distractors)
    place = replace(setup, **changes)  # type: ignore[arg-type]
    try:
        wanted = tuple(condition or CONDITIONS)
        with progress(len(loaded) * len(wanted) * episodes, "episodes") as advance:
            rows = roll_out(
                [actor for actor, _ in loaded],
                place,
                episodes,
                seed,
                output,
                wanted,
                lambda done, _: advance(to=done),
                partial(load, threads=threads),
                say=partial(say, err=True),
            )
    except KeyboardInterrupt:
        say(f"interrupted: {output} keeps what is done; the same command goes on", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    rates = summarise(rows)
    width = max(len(rate.name) for rate in rates)
    say(f"{'policy':<{width}}  {'masks':<12} {'condition':<17} success          95 % interval")
    for rate in rates:
        share = f"{rate.successes}/{rate.episodes} = {rate.rate:.2f}"
        interval = f"{rate.low:.2f} to {rate.high:.2f}"
        say(
            f"{rate.name:<{width}}  {rate.masker:<12} {CONDITIONS[rate.condition]:<17} {share:<16} {interval}"
        )
    say(f"{', '.join(place.tasks)}; distractors {place.distractors[0]} to {place.distractors[1]}; {output}")


def _need(*modules: str) -> None:
    from ivm.errors import require

    for module in modules:
        if module == "mujoco":  # it reads where to draw when it is first imported
            from ivm.data.tabletop.stage import load_mujoco

            load_mujoco("robot")
        else:
            require(module, "robot")


def _range(text: str) -> tuple[int, int]:
    from ivm.errors import OptionError

    parts = text.split("-")
    if len(parts) not in (1, 2) or not all(part.strip().isdecimal() for part in parts):
        raise OptionError(f"distractors must be a number or fewest-most, such as 3-7, but got {text!r}")
    return int(parts[0]), int(parts[-1])
