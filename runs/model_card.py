"""Put the figures of docs/reports into the model card's tables.

    python runs/model_card.py            rewrite docs/model-card.md between its <!-- figures --> marks
    python runs/model_card.py --check    exit with 1 if the card tells other figures than the reports

Reads what runs/evaluate_compact.py and runs/compact_checks.py wrote. What the tables mean, the card says.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
PHOTOS = ("voc", "coco", "clothing")
SCENES = ("tabletop", "tabletop, unseen pairs", "collage, unseen cut-outs")
LEAST = 20  # questions of a kind, or it has no row of its own


def interval(value) -> str:
    return f"{value[0]:.3f} [{value[1]:.2f}, {value[2]:.2f}]"


def by_kind(report) -> str:
    """Every kind with enough questions on photos, all together on scenes, and the best trivial baseline."""
    lines = [
        "| data | kind | n | gIoU | pointing | found right | best baseline, gIoU / pointing |",
        "|---|---|---:|---|---|---|---|",
    ]
    for name in PHOTOS + SCENES:
        mine = report[name]["tables"][report[name]["model"]]
        others = [table for model, table in report[name]["tables"].items() if model != report[name]["model"]]
        for kind, row in mine.items():
            if kind not in ("all present", "absent") and (name in SCENES or row["n"] < LEAST):
                continue
            cells = [interval(row[key]) if key in row else "" for key in ("giou", "pointing")]
            best = ""
            if "giou" in row:
                best = " / ".join(
                    f"{max(table[kind][key][0] for table in others):.3f}" for key in ("giou", "pointing")
                )
            found = interval(row["found_accuracy"])
            lines.append(f"| {name} | {kind} | {row['n']} | {' | '.join(cells)} | {found} | {best} |")
            if kind == "all present" and "part" in mine:
                lines.append(without_part(name, mine, others))
        if name.startswith("collage"):
            for which, row in report["collage by names"].items():
                cells = f"{row['n']} | {interval(row['giou'])} | {interval(row['pointing'])}"
                lines.append(f"| {name} | {which} | {cells} |  |  |")
    return "\n".join(lines)


def without_part(name, mine, others) -> str:
    """All present but the kind "part", which is the easiest: means of the kinds' means, no intervals."""
    kinds = [k for k, row in mine.items() if k not in ("all present", "part") and "giou" in row]
    count = sum(mine[kind]["n"] for kind in kinds)

    def mean(table, key):
        return sum(table[kind][key][0] * mine[kind]["n"] for kind in kinds) / count

    told = " | ".join(f"{mean(mine, key):.3f}" for key in ("giou", "pointing", "found_accuracy"))
    best = " / ".join(f"{max(mean(table, key) for table in others):.3f}" for key in ("giou", "pointing"))
    return f"| {name} | all present but part | {count} | {told} | {best} |"


def detection(report) -> str:
    lines = ["| data | AUROC of the found score | absent recognised at 5 % false alarms |", "|---|---:|---:|"]
    for name in PHOTOS + SCENES:
        told = report[name]["detection"][report[name]["model"]]
        lines.append(f"| {name} | {told['auroc']:.3f} | {told['absent_at_5']:.2f} |")
    return "\n".join(lines)


def tabletop_kinds(report) -> str:
    rows = report["tabletop"]["tables"][report["tabletop"]["model"]]
    kinds = [kind for kind, row in rows.items() if kind != "all present" and "giou" in row]
    lines = [
        f"| tabletop, kinds with {LEAST} questions and more | n | gIoU | pointing | found right |",
        "|---|---:|---|---|---:|",
    ]
    for kind in sorted(kinds, key=lambda kind: -rows[kind]["n"]):
        row = rows[kind]
        if row["n"] >= LEAST:
            lines.append(
                f"| {kind} | {row['n']} | {interval(row['giou'])} | {interval(row['pointing'])} "
                f"| {row['found_accuracy'][0]:.2f} |"
            )
    return "\n".join(lines)


def calibration(checks) -> str:
    lines = ["| data | present | absent | expected calibration error |", "|---|---:|---:|---:|"]
    for name, row in checks["found score"].items():
        lines.append(f"| {name} | {row['present']} | {row['absent']} | {row['error']:.2f} |")
    return "\n".join(lines)


def quantisation(checks) -> str:
    lines = [
        "| data | n | gIoU, shipped | float32 | difference | pointing, difference | found agrees |",
        "|---|---:|---:|---:|---|---|---:|",
    ]
    for name, row in checks["quantisation"].items():
        giou, pointing = row["giou"], row["pointing"]
        lines.append(
            f"| {name} | {row['questions']} | {giou['shipped']:.4f} | {giou['float32']:.4f} "
            "| {:+.4f} [{:+.4f}, {:+.4f}] ".format(*giou["difference"])
            + "| {:+.3f} [{:+.3f}, {:+.3f}] ".format(*pointing["difference"])
            + f"| {row['found agrees']:.3f} |"
        )
    return "\n".join(lines)


def listens(report) -> str:
    lines = [
        "| asked for the one, then for the other | pairs | both points right | points on one of the two "
        "| of those, on the one that is meant |",
        "|---|---:|---|---:|---:|",
    ]
    words = {"colour": 'two colours ("the red cup", "the blue cup")', "side": 'two sides ("on the left")'}
    for by, told in report["swaps"].items():
        row = f"| {words[by]} | {told['pairs']} | {interval(told['both_right'])} "
        lines.append(f"{row}| {told['on_one']:.3f} | {told['on_the_meant']:.3f} |")
    lines += ["", "| one request in two phrasings | pairs | IoU of the masks |", "|---|---:|---|"]
    for name, told in report["paraphrases"].items():
        lines.append(f"| {name} | {told['pairs']} | {interval(told['iou'])} |")
    return "\n".join(lines)


def fill(card: str, tables: dict[str, str]) -> str:
    """The card with each table between its marks, <!-- figures: NAME --> and <!-- end -->."""
    for name, table in tables.items():
        marks = re.compile(rf"(<!-- figures: {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        if len(marks.findall(card)) != 1:
            sys.exit(f"the card must have the marks <!-- figures: {name} --> and <!-- end --> once")
        card = marks.sub(lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", card)
    return card


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; tell whether the card is right")
    arguments = parser.parse_args()
    report = json.loads((DOCS / "reports" / "compact.json").read_text(encoding="utf-8"))
    checks = json.loads((DOCS / "reports" / "compact-checks.json").read_text(encoding="utf-8"))
    tables = {
        "by kind": by_kind(report),
        "detection": detection(report),
        "listens": listens(report),
        "tabletop kinds": tabletop_kinds(report),
        "calibration": calibration(checks),
        "quantisation": quantisation(checks),
    }
    file = DOCS / "model-card.md"
    old = file.read_text(encoding="utf-8")
    new = fill(old, tables)
    if arguments.check:
        sys.exit(0 if new == old else f"{file.name} and the reports differ: run runs/model_card.py")
    temporary = file.with_suffix(".tmp")
    temporary.write_text(new, encoding="utf-8")
    temporary.replace(file)


if __name__ == "__main__":
    main()
