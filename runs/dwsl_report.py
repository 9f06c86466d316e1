"""Figures and plots of runs/dwsl.py: docs/reports/NAME.json, docs/pictures/NAME.png, and tables to paste."""

from __future__ import annotations

import json
import platform
import sys
from datetime import date
from pathlib import Path

import numpy as np

DOCS = Path(__file__).resolve().parent.parent / "docs"
COLOURS = ("#0072b2", "#999999", "#56b4e9", "#e69f00", "#cc79a7", "#d55e00", "#009e73", "#000000")
"""Okabe and Ito's."""


def spread(values: list[float]) -> tuple[float, float]:
    """(mean, standard deviation over seeds; 0 for one)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _cells(lines: list[dict]) -> set[tuple[str, int]]:
    """Every (method, human photos) that was run."""
    return {(one["method"], one["human_photos"]) for one in lines}


def report(results: Path, methods: list[str], name: str) -> None:
    if not results.exists():
        sys.exit(f"{results} is missing: do the runs first")
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    base = [line for line in lines if line["human_photos"] == 400]  # other amounts have a panel of their own
    rows = {}
    for method in methods:
        mine = [line for line in base if line["method"] == method]
        if mine:
            rows[method] = {
                "seeds": len(mine),
                "giou": spread([line["giou"][0] for line in mine]),
                "pointing": spread([line["pointing"][0] for line in mine]),
                "photo interval": [round(v, 3) for v in mine[0]["giou"][1:]],
            }
    print("| method | seeds | gIoU | pointing |\n| --- | --- | --- | --- |")
    for method, row in rows.items():
        cells = [f"{row[key][0]:.3f} ± {row[key][1]:.3f}" for key in ("giou", "pointing")]
        print(f"| {method} | {row['seeds']} | {' | '.join(cells)} |")
    compared = [method for method in methods if len({n for m, n in _cells(lines) if m == method}) > 1]
    print("\n| human photos | " + " | ".join(f"gIoU, {m} | pointing" for m in compared) + " |")
    print("|" + " --- |" * (2 * len(compared) + 1))
    for amount in sorted({n for _, n in _cells(lines)}):
        cells = []
        for method in compared:
            mine = [one for one in lines if (one["method"], one["human_photos"]) == (method, amount)]
            for key in ("giou", "pointing"):
                cells.append("{:.3f} ± {:.3f}".format(*spread([one[key][0] for one in mine])) if mine else "")
        print(f"| {amount} | {' | '.join(cells)} |")
    judges = {
        method: [
            line["discriminator"] for line in base if line["method"] == method and "discriminator" in line
        ]
        for method in methods
    }
    judges = {method: found for method, found in judges.items() if found}
    keys = (
        "auc masks", "auc boxes", "auc right against whole picture", "auc machine good against bad",
        "mean change with the mask",
    )  # fmt: skip
    print("\n| discriminator | " + " | ".join(judges) + " |\n|" + " --- |" * (len(judges) + 1))
    for key in keys:
        cells = ["{:.3f} ± {:.3f}".format(*spread([one[key] for one in found])) for found in judges.values()]
        print(f"| {key} | {' | '.join(cells)} |")
    print(
        "\n| annotator | share | mean IoU | above 0.5 | " + " | ".join(f"D, {name}" for name in judges) + " |"
    )
    print("|" + " --- |" * (len(judges) + 4))
    quality = base[0]["annotators"]
    total = sum(count for count, _, _ in quality.values())
    for kind, (count, mean, above) in sorted(quality.items(), key=lambda item: -item[1][1]):
        told = [f"{np.mean([one['by annotator'][kind] for one in found]):.2f}" for found in judges.values()]
        print(f"| {kind} | {count / total:.0%} | {mean:.2f} | {above:.0%} | {' | '.join(told)} |")

    content = {
        "machine": f"{platform.machine()}, CPU", "date": f"{date.today():%Y-%m}",
        "size": base[0]["size"], "pictures": base[0]["pictures"],
        "precision": base[0].get("precision", "fp32"), "methods": rows, "runs": lines,
    }  # fmt: skip
    (DOCS / "reports" / f"{name}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    draw(base, lines, methods, judges, DOCS / "pictures" / f"{name}.png")


def draw(
    base: list[dict], lines: list[dict], methods: list[str], judges: dict[str, list[dict]], file: Path
) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    amounts = sorted({line["human_photos"] for line in lines})
    panels = 3 if len(amounts) > 1 else 2
    figure, axes = plt.subplots(1, panels, figsize=(4.6 * panels, 3.6), layout="constrained")
    axis = axes[0]
    there = [method for method in methods if any(line["method"] == method for line in base)]
    for k, method in enumerate(there):
        values = [line["giou"][0] for line in base if line["method"] == method]
        mean, deviation = spread(values)
        axis.bar(k, mean, color=COLOURS[methods.index(method)], width=0.65)
        axis.errorbar(k, mean, deviation, color="black", capsize=4)
        axis.plot([k] * len(values), values, "o", color="black", markersize=3)
    axis.set_xticks(range(len(there)), there, rotation=20, ha="right")
    axis.set_ylabel("gIoU on held-out photos")
    axis.set_title("Methods, 400 human photos", loc="left", fontsize=11)
    axis = axes[1]
    axis.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    for method, found in judges.items():
        for k, one in enumerate(found):
            told = np.array(one["reliability"])
            label = method if k == 0 else None
            axis.plot(
                told[:, 0], told[:, 1], "o-", color=COLOURS[methods.index(method)], alpha=0.7, label=label
            )
    axis.set_xlabel("D of a machine annotation")
    axis.set_ylabel("share that is right (IoU above 0.5)")
    axis.set_title("What D knows", loc="left", fontsize=11)
    axis.legend(frameon=False, fontsize=9)
    if panels == 3:
        axis = axes[2]
        for method in methods:
            if len({line["human_photos"] for line in lines if line["method"] == method}) < 2:
                continue
            points = []
            for n in amounts:
                mine = [one for one in lines if (one["method"], one["human_photos"]) == (method, n)]
                if mine:
                    points.append((n, *spread([one["giou"][0] for one in mine])))
            x, y, e = zip(*points, strict=True)
            axis.errorbar(x, y, e, marker="o", capsize=3, color=COLOURS[methods.index(method)], label=method)
        axis.set_xscale("log")
        axis.set_xticks(amounts, [str(n) for n in amounts])
        axis.minorticks_off()
        axis.set_xlabel("photos with human annotations")
        axis.set_title("More human annotations", loc="left", fontsize=11)
        axis.legend(frameon=False, fontsize=9)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
