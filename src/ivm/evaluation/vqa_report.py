"""The figures of `ivm eval vqa`: scores side by side, paired differences, cost; as JSON and as tables.

Scores are means over answered questions. A question without an answer is an error: it is counted, named, and
in no mean. Differences pair the answers to the same question, and stand on questions answered in both
conditions. Intervals are 95 % bootstrap intervals over pictures (`ivm.metrics.clustered_interval`); p-values
are McNemar's exact test, which for half points is the exact sign test of the questions whose score changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ivm import metrics
from ivm.evaluation.questions import BENCHMARKS
from ivm.evaluation.reports import cell, show, write_json, write_lines
from ivm.evaluation.scoring import Judge
from ivm.evaluation.vqa import OFF, Outcome, Setup
from ivm.lmm import LMM

__all__ = ["TOTAL", "make_report", "print_looks", "print_report", "save_report", "summarise"]

TOTAL = "all"
"""The row of all kinds together."""


def summarise(
    found: Sequence[Outcome], prices: tuple[float, float] | None = None
) -> dict[str, dict[str, Any]]:
    """The figures: "scores", "differences", "yes_no", "masks" and "cost", each by condition.

    Args:
        found: from `ivm.evaluation.vqa.outcomes`.
        prices: of a million tokens sent and received, in any currency; None: no cost.

    Returns:
        plain JSON values, NaN where a figure does not exist. An interval is [value, low, high].
    """
    conditions = list(dict.fromkeys(one.condition for one in found))
    kinds = [TOTAL, *dict.fromkeys(one.question.kind for one in found)]
    if len(kinds) == 2:  # one kind is all there is
        kinds = [TOTAL]
    figures: dict[str, dict[str, Any]] = {
        name: {} for name in ("scores", "differences", "yes_no", "masks", "cost")
    }
    for condition in conditions:
        mine = [one for one in found if one.condition == condition]
        figures["scores"][condition] = {kind: _scores(_of(mine, kind)) for kind in kinds}
        figures["cost"][condition] = _cost([one.line for one in mine], prices)
        if any(one.question.rule == "yes-no" for one in mine):
            figures["yes_no"][condition] = {kind: _yes_no(_of(mine, kind)) for kind in kinds}
        if condition != OFF:
            figures["masks"][condition] = {kind: _masks(_of(mine, kind)) for kind in kinds}
            before = {one.question.id: one for one in found if one.condition == OFF}
            pairs = [(before[one.question.id], one) for one in mine if one.question.id in before]
            figures["differences"][condition] = {
                kind: _difference([(a, b) for a, b in pairs if kind in (TOTAL, a.question.kind)])
                for kind in kinds
            }
        if len(kinds) > 1:  # EgoThink has more questions of some kinds than of others
            row = figures["scores"][condition]
            row[TOTAL]["mean_of_kinds"] = float(np.mean([row[kind]["score"][0] for kind in kinds[1:]]))
    rulings = {one.ruling["key"]: one.ruling for one in found if one.ruling}
    if rulings:  # the judge is another model, of other prices
        figures["cost"]["judge"] = _cost(list(rulings.values()), None)
    return figures


def make_report(
    found: Sequence[Outcome],
    setup: Setup,
    judging: tuple[LMM, Judge] | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole report, with what is needed to make it again.

    Args:
        found: from `ivm.evaluation.vqa.outcomes`.
        setup: how was asked.
        judging: who judged, if anybody, and how.
        settings: "benchmark" (a key of BENCHMARKS), "prices" (as in `summarise`), and what else to tell.
    """
    from importlib.metadata import version

    benchmark = BENCHMARKS[settings["benchmark"]]
    errors = [f"{one.question.id} ({one.condition}): {one.error}" for one in found if one.error]
    return {
        "title": benchmark.title,
        "address": benchmark.address,
        "scoring": benchmark.scoring,
        **settings,
        "lmm": setup.lmm.model,
        "url": setup.lmm.base_url,
        "served_by": sorted({str(one.line["served_by"]) for one in found if one.line.get("served_by")}),
        "request": dict(setup.lmm.options),
        "model": setup.model,
        "modes": list(setup.modes),
        "show": setup.show,
        "threshold": setup.threshold,
        "tiles": setup.tiles,
        "longest": setup.longest,
        "judge": {"llm": judging[0].model, "words": judging[1].name} if judging is not None else None,
        "version": version("ivm"),
        "questions": len({one.question.id for one in found}),
        "images": len({one.question.image_id for one in found}),
        "complete": all(one.state == "answered" for one in found),
        "errors": errors,
        "figures": summarise(found, settings["prices"]),
    }


def save_report(report: Mapping[str, Any], found: Sequence[Outcome], folder: Path) -> None:
    """Write report.json, and side-by-side.jsonl with a line for each question.

    Raises:
        OutputError: a file cannot be written.
    """
    write_json(report, folder / "report.json")
    write_lines(_side_by_side(found), folder / "side-by-side.jsonl")


def _of(found: Sequence[Outcome], kind: str) -> list[Outcome]:
    return [one for one in found if kind in (TOTAL, one.question.kind)]


def _mean(values: Sequence[float], clusters: Sequence[str]) -> list[float]:
    if not len(values):
        return [float("nan")] * 3
    array = np.array(values, float)
    return [float(array.mean()), *metrics.clustered_interval(array, np.array(clusters))]


def _scores(found: Sequence[Outcome]) -> dict[str, Any]:
    answered = [one for one in found if one.state == "answered"]
    return {
        "questions": len(found),
        "answered": len(answered),
        "score": _mean([one.score for one in answered], [one.question.image_id for one in answered]),
        "unclear": sum(one.unclear for one in answered),
        "cut_off": sum(one.line.get("finish_reason") == "length" for one in answered),
        "errors": sum(one.state == "error" for one in found),
        "unjudged": sum(one.state == "unjudged" for one in found),
        "unasked": sum(one.state == "unasked" for one in found),
    }


def _difference(pairs: Sequence[tuple[Outcome, Outcome]]) -> dict[str, Any]:
    both = [(a, b) for a, b in pairs if a.state == b.state == "answered"]
    changes = [b.score - a.score for a, b in both]
    better, worse = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    return {
        "questions": len(both),
        "off": float(np.mean([a.score for a, _ in both])) if both else float("nan"),
        "masked": float(np.mean([b.score for _, b in both])) if both else float("nan"),
        "difference": _mean(changes, [a.question.image_id for a, _ in both]),
        "better": better,
        "worse": worse,
        "p": metrics.mcnemar(better, worse) if both else float("nan"),
    }


def _yes_no(found: Sequence[Outcome]) -> dict[str, float]:
    """As POPE's evaluate.py has them; a figure that divides by nothing is NaN."""
    heard = [one for one in found if one.state == "answered" and one.question.rule == "yes-no"]
    yes = [one for one in heard if one.read == "yes"]
    right = sum(one.question.answers[0] == "yes" for one in yes)
    wanted = sum(one.question.answers[0] == "yes" for one in heard)
    nothing = float("nan")
    precision = right / len(yes) if yes else nothing
    recall = right / wanted if wanted else nothing
    return {
        "accuracy": float(np.mean([one.score for one in heard])) if heard else nothing,
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall > 0 else nothing,
        "yes": len(yes) / len(heard) if heard else nothing,
    }


def _masks(found: Sequence[Outcome]) -> dict[str, Any]:
    lines = [(one.line, one.question.image_id) for one in found if "kept_area" in one.line]
    aimed = [(line, image) for line, image in lines if line.get("target_kept") is not None]
    images = [image for _, image in lines]
    return {
        "questions": len(lines),
        "kept": _mean([line["kept_area"] for line, _ in lines], images),
        "found": _mean([float(line["found"]) for line, _ in lines], images),
        "kept_whole": sum(bool(line["kept_whole"]) for line, _ in lines),
        "target_kept": _mean([line["target_kept"] for line, _ in aimed], [image for _, image in aimed]),
        "seconds": _spread([line["masking_seconds"] for line, _ in lines]),
    }


def _cost(lines: Sequence[Mapping[str, Any]], prices: tuple[float, float] | None) -> dict[str, Any]:
    """Of the requests that were sent: a reply that another condition paid for costs nothing here."""
    answered = [line for line in lines if "text" in line]
    paid = [line for line in answered if "same_as" not in line]
    both = ("prompt_tokens", "completion_tokens")
    counted = [line["usage"] for line in paid if all(isinstance(line["usage"].get(n), int) for n in both)]
    sent = sum(usage["prompt_tokens"] for usage in counted)
    received = sum(usage["completion_tokens"] for usage in counted)
    price = float("nan")
    if prices is not None and len(counted) == len(paid):  # of a part it would mislead
        price = (sent * prices[0] + received * prices[1]) / 1e6
    return {
        "requests": len(paid),
        "reused": len(answered) - len(paid),
        "tokens_counted": len(counted),
        "tokens_sent": sent,
        "tokens_received": received,
        "seconds": _spread([line["seconds"] for line in paid]),
        "price": price,
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"mean": float("nan"), "median": float("nan"), "p95": float("nan")}
    median, high = np.quantile(values, [0.5, 0.95])
    return {"mean": float(np.mean(values)), "median": float(median), "p95": float(high)}


def _side_by_side(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A line for each question: what is right, and what was answered in each condition."""
    rows: dict[str, dict[str, Any]] = {}
    for one in found:
        question = one.question
        row = rows.setdefault(
            question.id,
            {
                "id": question.id,
                "kind": question.kind,
                "image": str(question.image),
                "asked": question.text,
                "right": list(question.answers),
            },
        )
        given: dict[str, Any] = {"state": one.state}
        if one.state == "answered":
            given |= {"score": one.score, "read": one.read}
        if "text" in one.line:
            given["answer"] = one.line["text"]
        if one.error:
            given["error"] = one.error
        row[one.condition] = given
    return list(rows.values())


def print_report(report: Mapping[str, Any], console: Any = None) -> None:
    """Print the tables on a Rich console: scores, differences, yes or no, masks, cost, what went wrong."""
    from rich.console import Console

    console = console or Console()
    state = "" if report["complete"] else "  (not all is asked: partial)"
    show(
        f"{report['title']}: {report['questions']} questions, {report['images']} pictures, "
        f"asked of {report['lmm']}, masked by {report['model']}{state}",
        console,
    )
    figures = report["figures"]
    scores, conditions = figures["scores"], list(figures["scores"])
    table = _table("score", "n", *conditions)
    for kind, row in scores[conditions[0]].items():
        table.add_row(kind, str(row["questions"]), *(_score(scores[c][kind]) for c in conditions))
    show(table, console)
    for condition, rows in figures["differences"].items():
        console.print()
        table = _table(f"{condition} - {OFF}", "n", "difference", "95 % interval", "better", "worse", "p")
        for kind, row in rows.items():
            value, low, high = row["difference"]
            shown = ("", "") if np.isnan(value) else (f"{value:+.3f}", f"{low:+.3f} to {high:+.3f}")
            table.add_row(
                kind, str(row["questions"]), *shown, str(row["better"]), str(row["worse"]), _p(row["p"])
            )
        show(table, console)
    if figures["yes_no"]:
        console.print()
        table = _table("yes or no", "accuracy", "precision", "recall", "F1", "yes")
        for condition, rows in figures["yes_no"].items():
            for kind, row in rows.items():
                table.add_row(f"{condition}, {kind}", *(_plain(row[name]) for name in row))
        show(table, console)
    print_looks(figures, console)
    console.print()
    table = _table("cost", "requests", "reused", "tokens in", "out", "median s", "95 % s", "price")
    for condition, row in figures["cost"].items():
        tokens = (
            (f"{row['tokens_sent']:,}", f"{row['tokens_received']:,}") if row["tokens_counted"] else ("", "")
        )
        times = (_plain(row["seconds"]["median"]), _plain(row["seconds"]["p95"]))
        table.add_row(
            condition, str(row["requests"]), str(row["reused"]), *tokens, *times, _plain(row["price"], 4)
        )
    show(table, console)
    _print_faults(report, console)


def print_looks(figures: Mapping[str, Any], console: Any = None) -> None:
    """Print what the masks keep, which needs no LMM."""
    from rich.console import Console

    console = console or Console()
    for condition, rows in figures["masks"].items():
        console.print()
        told = any(not np.isnan(row["target_kept"][0]) for row in rows.values())  # where the target is
        more = ("target kept",) if told else ()
        table = _table(f"masks: {condition}", "n", "kept", *more, "found", "kept whole", "median s")
        for kind, row in rows.items():
            aimed = (
                (cell(row["target_kept"]),) if told and not np.isnan(row["target_kept"][0]) else ("",) * told
            )
            kept, sure = (cell(row[name]) if row["questions"] else "" for name in ("kept", "found"))
            shown = (str(row["questions"]), kept, *aimed, sure, str(row["kept_whole"]))
            table.add_row(kind, *shown, _plain(row["seconds"]["median"], 3))
        show(table, console)


def _print_faults(report: Mapping[str, Any], console: Any) -> None:
    names = {
        "unclear": "could not be read and score 0",
        "cut_off": "were cut off by the limit of tokens",
        "errors": "got no answer and are in no figure; the same command asks them again",
        "unjudged": "wait for a judge and are in no figure",
        "unasked": "were not asked",
    }
    lines = []
    for name, meaning in names.items():
        counts = {
            c: rows[TOTAL][name] for c, rows in report["figures"]["scores"].items() if rows[TOTAL][name]
        }
        if counts:
            lines.append(
                ", ".join(f"{condition} {count}" for condition, count in counts.items()) + f": {meaning}"
            )
    if lines:
        console.print()
    for line in lines:
        show(line, console)
    for error in report["errors"][:3]:
        show(f"  {error}", console)


def _table(*titles: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left", no_wrap=True)
    return table


def _score(row: Mapping[str, Any]) -> str:
    if not row["answered"]:
        return ""
    lacking = row["questions"] - row["answered"]
    return cell(row["score"]) + (f" ({row['answered']})" if lacking else "")


def _p(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _plain(value: float, digits: int = 2) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"
