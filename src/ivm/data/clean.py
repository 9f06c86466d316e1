"""Cleaning: named rules drop samples into a store of their own; all can be put back."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ivm.data.layout import Encoding, to_json, uuid_of
from ivm.data.measure import NEAR_BITS, Measured, look_alikes, measure
from ivm.data.records import get, read_lines
from ivm.data.shards import Index, ShardWriter, read_index
from ivm.data.stream import ShardReader
from ivm.errors import DataError, OptionError
from ivm.files import write_bytes

__all__ = [
    "RULES",
    "Dropped",
    "Limits",
    "clean",
    "copy_samples",
    "find_faults",
    "identity",
    "read_scores",
    "restore",
]

RULES: dict[str, str] = {
    "size-mismatch": "image and heatmap have different sizes, or one of them cannot be decoded",
    "no-letters": "no instruction has a letter",
    "empty": "nothing is relevant, and the sample does not say that its target is absent",
    "nearly-whole-image": "the kept area is at least `whole`",
    "speck": "something is relevant, but less than `speck` of the picture",
    "border-only": "all but `inside` of the relevant area lies in the picture's outermost 2 %",
    "low-score": "the discriminator's score is below `min_score`; people's stay (needs a file of scores)",
    "near-duplicate": "the picture looks like an earlier one, and the instructions are the same",
    "disagreement": "annotations of one picture and instruction overlap by less than `agree`; people's stay",
}
"""Name -> what it drops. Rules are tried in this order, and a sample is counted under the first."""


@dataclass(frozen=True)
class Limits:
    """Where the rules draw the line.

    Attributes:
        whole: kept area from which on a sample counts as nearly the whole image.
        speck: kept area below which it is a speck.
        inside: share of the relevant area that must lie away from the edge.
        agree: intersection over union below which repeated annotations disagree.
        near_bits: bits in which the hashes of near-duplicates may differ.
        people: apply "nearly-whole-image", "speck" and "border-only" to human annotations, too. They find
            failed machine annotations; a person who marks a whole face or a far-off bird is mostly right.
            The same goes for "low-score".
        min_score: score of the discriminator below which a sample is dropped.

    Raises:
        OptionError: one is out of range.
    """

    whole: float = 0.95
    speck: float = 0.0001
    inside: float = 0.02
    agree: float = 0.5
    near_bits: int = NEAR_BITS
    people: bool = False
    min_score: float = 0.1

    def __post_init__(self) -> None:
        for name in ("whole", "speck", "inside", "agree", "min_score"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise OptionError(f"{name} must be in [0, 1], but got {getattr(self, name)}")
        if not 0 <= self.near_bits <= 64:
            raise OptionError(f"near_bits must be in 0 to 64, but got {self.near_bits}")


@dataclass(frozen=True)
class Dropped:
    """A sample that a rule drops: where it is in the source, the rule, and what was measured."""

    shard: int
    number: int
    uuid: str
    rule: str
    detail: str


def find_faults(
    measured: Iterable[Measured],
    rules: Sequence[str] = tuple(RULES),
    limits: Limits | None = None,
    scores: Mapping[str, float | None] | None = None,
) -> list[Dropped]:
    """What the rules drop, in the order of the store, each sample once.

    Args:
        measured: the samples.
        rules: names in RULES.
        limits: where they draw the line.
        scores: uuid -> score of the discriminator, of every sample that "low-score" judges; one whose
            score is None passes. Without scores that rule is left out.

    Raises:
        OptionError: a rule does not exist.
        DataError: a sample that "low-score" judges is not among the scores.
    """
    limits = limits or Limits()
    unknown = sorted(set(rules) - set(RULES))
    if unknown:
        raise OptionError(f"rules must be among {', '.join(RULES)}, but got {', '.join(unknown)}")
    everything = list(measured)
    found: dict[tuple[int, int], tuple[str, str]] = {}
    left = []
    for one in everything:
        score = None
        if scores is not None and "low-score" in rules and (limits.people or not one.human):
            if one.uuid not in scores:
                raise DataError(f"sample {one.uuid} has no score: score this very store, then clean it")
            score = scores[one.uuid]
        fault = _own_fault(one, rules, limits, score)
        if fault:
            found[one.shard, one.number] = fault
        else:
            left.append(one)
    for rule, search in (("near-duplicate", _duplicates), ("disagreement", _disagreements)):
        if rule in rules:
            for one, detail in search(left, limits):
                found.setdefault((one.shard, one.number), (rule, detail))
            left = [one for one in left if (one.shard, one.number) not in found]
    return [
        Dropped(one.shard, one.number, one.uuid, *found[one.shard, one.number])
        for one in everything
        if (one.shard, one.number) in found
    ]


def _own_fault(
    one: Measured, rules: Sequence[str], limits: Limits, score: float | None
) -> tuple[str, str] | None:
    """The first rule that a sample breaks by itself, and what was measured."""
    area = one.area
    checks: dict[str, tuple[bool, str]] = {
        "size-mismatch": (bool(one.fault), one.fault),
        "no-letters": (not any(c.isalpha() for text in one.texts for c in text), "no letters"),
    }
    if area is not None:
        said = one.kind.partition(" ")[0] == "absent"  # "absent", "absent colour", ...
        checks["empty"] = (area == 0.0 and not said, "kept area 0")
    if area is not None and (limits.people or not one.human):
        checks |= {
            "nearly-whole-image": (area >= limits.whole, f"kept area {area:.4f}"),
            "speck": (0.0 < area < limits.speck, f"kept area {area:.6f}, {one.pixels} pixels"),
            "border-only": (area > 0.0 and one.inside < limits.inside, f"{one.inside:.3f} inside"),
        }
    if score is not None:
        checks["low-score"] = (score < limits.min_score, f"score {score:.4f}")
    return next(
        ((rule, checks[rule][1]) for rule in RULES if rule in rules and rule in checks and checks[rule][0]),
        None,
    )


def _duplicates(samples: Sequence[Measured], limits: Limits) -> Iterator[tuple[Measured, str]]:
    looks = list(dict.fromkeys((one.image_id, one.hash) for one in samples))
    original: dict[tuple[str, bytes], tuple[str, bytes]] = {}  # a picture -> the earliest that it looks like
    for i, j in look_alikes([seen for _, seen in looks], limits.near_bits):
        if looks[i][0] != looks[j][0]:  # frames of one episode look alike, and are no duplicates
            original.setdefault(looks[j], original.get(looks[i], looks[i]))
    asked: dict[tuple[tuple[str, bytes], frozenset[str]], Measured] = {}
    for one in samples:
        look = (one.image_id, one.hash)
        key = (original.get(look, look), frozenset(one.texts))
        earlier = asked.setdefault(key, one)
        if earlier.image_id != one.image_id:
            yield one, f"like {earlier.uuid}"


def _disagreements(samples: Sequence[Measured], limits: Limits) -> Iterator[tuple[Measured, str]]:
    repeated: dict[tuple[tuple[str, bytes], str], list[Measured]] = defaultdict(list)
    for one in samples:
        if one.area is not None:
            for text in set(one.texts):
                repeated[one.picture, text].append(one)
    for group in repeated.values():
        if len(group) < 2:
            continue
        masks = [np.unpackbits(np.frombuffer(one.thumb, np.uint8)).astype(bool) for one in group]
        worst = min(_overlap(a, b) for k, a in enumerate(masks) for b in masks[k + 1 :])
        if worst < limits.agree:
            others = [one.uuid for one in group]
            for one in group:
                if not one.human or all(other.human for other in group):
                    yield one, f"overlap {worst:.2f} among {', '.join(others[:4])}"


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else 1.0


def clean(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    rules: Sequence[str] = tuple(RULES),
    limits: Limits | None = None,
    workers: int = 1,
    scores: Mapping[str, float | None] | None = None,
) -> tuple[Index, Counter[str]]:
    """Write the samples that no rule drops to a new store; the source is only read.

    Beside the kept shards `output` gets dropped/, a store of what was dropped, and dropped.jsonl, one line a
    dropped sample: its place in the source, rule and measurement. `restore` puts them back.

    Args:
        source: folder of the store.
        output: folder of the new one.
        rules: names in RULES.
        limits: where they draw the line.
        workers: processes.
        scores: as in `find_faults`.

    Returns:
        The index of the kept samples, and how many each rule dropped.

    Raises:
        OptionError: a rule does not exist, or `output` lies in the source.
        DataError: the source is no finished store, or damaged; `output` holds another store.
    """
    limits = limits or Limits()
    source, output = Path(source), Path(output)
    if output.resolve().is_relative_to(source.resolve()):
        raise OptionError(
            f"output must not lie in the source, but {output} does: the source is never changed"
        )
    reader = ShardReader(source)
    recipe = {"reader": "clean", "source": identity(reader), "rules": list(rules), "limits": vars(limits)}
    if scores is not None:
        recipe["scores"] = hashlib.sha256(to_json(sorted(scores.items()))).hexdigest()
    faults = find_faults(measure(reader, workers), rules, limits, scores)
    bad = {(one.shard, one.number) for one in faults}
    places = [(s, n) for s, shard in enumerate(reader.index.shards) for n in range(shard.samples)]
    kept = copy_samples(
        reader, [place for place in places if place not in bad], output, {**recipe, "part": "kept"}
    )
    copy_samples(
        reader, [place for place in places if place in bad], output / "dropped", {**recipe, "part": "dropped"}
    )
    lines = b"".join(to_json(vars(one)) + b"\n" for one in faults)
    write_bytes(output / "dropped.jsonl", lines)
    return kept, Counter(one.rule for one in faults)


def read_scores(path: str | os.PathLike[str]) -> dict[str, float | None]:
    """uuid -> score, of a file that `ivm score` or `ivm annotate` wrote; None for a sample that has none.

    Raises:
        DataError: it cannot be read, or a line of it is wrong.
    """
    scores: dict[str, float | None] = {}
    for line, row in read_lines(path):
        try:
            if isinstance(row, DataError):
                raise row
            uuid = get(row, "uuid", str)
            known = row.get("score", ...) is not None  # null says that it has none, and is not absent
            scores[uuid] = float(get(row, "score", (int, float))) if known else None
        except DataError as error:
            raise DataError(f"{path}:{line}: {error}") from error
    return scores


def restore(
    cleaned: str | os.PathLike[str], output: str | os.PathLike[str], rules: Sequence[str] = tuple(RULES)
) -> Index:
    """Undo cleaning: a new store of the kept samples and of those that `rules` dropped, in their first order.

    Raises:
        OptionError: a rule does not exist.
        DataError: `cleaned` is no store that `clean` wrote.
    """
    cleaned, output = Path(cleaned), Path(output)
    unknown = sorted(set(rules) - set(RULES))
    if unknown:
        raise OptionError(f"rules must be among {', '.join(RULES)}, but got {', '.join(unknown)}")
    kept = ShardReader(cleaned)
    if not (cleaned / "dropped.jsonl").is_file():
        raise DataError(f"{cleaned} must be a store that ivm data clean wrote, but it has no dropped.jsonl")
    dropped = ShardReader(cleaned / "dropped")
    try:
        lines = (cleaned / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
        faults = [Dropped(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{cleaned}/dropped.jsonl cannot be read: {error}") from error
    shards = kept.index.recipe["source"]["shards"]
    places = [(s, n) for s, (_, samples) in enumerate(shards) for n in range(samples)]
    rule_at = {(one.shard, one.number): one.rule for one in faults}
    order: list[tuple[ShardReader, int, int]] = []
    good, bad = _walk(kept), _walk(dropped)
    for place in places:
        if place not in rule_at:
            order.append((kept, *next(good)))
        elif rule_at[place] in rules:
            order.append((dropped, *next(bad)))
        else:
            next(bad)
    recipe = {"reader": "restore", "source": kept.index.recipe["source"], "rules": sorted(rules)}
    return _write_store(order, output, recipe, kept.index)


def _walk(reader: ShardReader) -> Iterator[tuple[int, int]]:
    return ((s, n) for s, shard in enumerate(reader.index.shards) for n in range(shard.samples))


def identity(reader: ShardReader) -> dict[str, Any]:
    """What tells one store from another, in plain JSON."""
    return {"shards": [[shard.sha256, shard.samples] for shard in reader.index.shards]}


def copy_samples(
    reader: ShardReader, places: Sequence[tuple[int, int]], output: Path, recipe: Mapping[str, Any]
) -> Index:
    return _write_store([(reader, *place) for place in places], output, recipe, reader.index)


def _write_store(
    order: Sequence[tuple[ShardReader, int, int]], output: Path, recipe: Mapping[str, Any], like: Index
) -> Index:
    """Copy encoded samples, in shards of the size of those of `like`; goes on with an unfinished store."""
    settings = dict(like.recipe["writer"])
    most, largest = settings.pop("samples_per_shard"), settings.pop("bytes_per_shard")
    full = {**recipe, "writer": like.recipe["writer"]}
    if (output / "index.json").exists() and read_index(output).recipe == json.loads(to_json(full)):
        return read_index(output)
    with ShardWriter(output, recipe, Encoding(**settings), most, largest) as writer:
        for k in range(writer.position[0], len(order)):
            reader, shard, number = order[k]
            members = reader.members(shard, number)
            described = json.loads(members["json"])
            counted = f"{described['source']}, {'human' if described['human'] else 'machine'}"
            writer.write_members(uuid_of(reader.keys(shard)[number]), members, counted, (k + 1, 0))
    return read_index(output)
