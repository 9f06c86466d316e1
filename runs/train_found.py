"""Train the found head of the compact model anew: the kind of instruction must not decide what is found.

    IVM_DATA=folder-of-packs python runs/train_found.py WEIGHTS OUT.safetensors

Where some kinds of instruction ask in vain more often than others, the kind tells what is found; in training
their shares are near each other, not the same (`ivm.data.kinds.SOUNDS_LIKE`). Here
each kind that asks in vain has the kinds that sound like it as twins, and both sides have the same weight
in the loss. All other weights stay as they are: the head sees the mask tokens, and how hot the heatmaps are,
of training photos (split "train") and of synthetic scenes, made once. The figures are of validation photos
and of scenes of another seed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file

from ivm.data.grammar import instructions_for
from ivm.data.kinds import SOUNDS_LIKE
from ivm.data.materials import nouns_looked_for, read_materials
from ivm.data.packs import data_folder, read_pack
from ivm.data.photo_scenes import photo_scene
from ivm.data.synthesis import Synthesis
from ivm.data.synthesis_spec import SynthesisSpec
from ivm.data.tabletop.catalogue import KINDS as TABLETOP_KINDS
from ivm.metrics import auroc
from ivm.models.compact import CompactConfig, CompactModel, frozen_parts
from ivm.models.minilm import build_tokenizer
from ivm.training.checkpoints import read_header, write_weights
from ivm.training.precision import flush_denormals
from train_compact import UNSEEN_PAIRS

PACKS = ("voc", "coco", "clothing")
SIZE, EPOCHS, RATE = 192, 40, 3e-4


def scenes(root: Path, split: str, photos: int, made: int, seed: int):
    """(where from, scene, nouns to ask for in vain), shuffled photos first."""
    rng = np.random.default_rng(seed)
    for name in PACKS:
        pack = read_pack(root / name)
        nouns = nouns_looked_for(pack)
        mine = [photo for photo in pack.split(split) if photo.regions]
        for k in rng.permutation(len(mine))[: photos // len(PACKS)]:
            yield name, photo_scene(mine[k], nouns), ()
    cutouts = (str(root / "cutouts"), str(root / "grocery"))
    backgrounds = (str(root / "voc"), str(root / "coco"))
    others = {
        "tabletop": tuple(TABLETOP_KINDS),
        "collage": read_materials(backgrounds, cutouts, "train").names(),
    }
    for source in others:
        spec = SynthesisSpec(
            {source: 1.0}, size=SIZE, instructions=1, split="train", tabletop={"exclude_pairs": UNSEEN_PAIRS},
            photos=backgrounds, cutouts=cutouts,
        )  # fmt: skip
        with Synthesis(spec, seed) as synthesis:
            for index in range(made // 2):
                yield source, synthesis.scene(index)[0], others[source]


def questions(scene, others, rng, count=3):
    """[(twin, present, text)]: up to `count` pairs of kinds, both asked where the scene allows both."""
    asked = []
    for twin in rng.permutation(list(SOUNDS_LIKE)):
        pair = [instructions_for(scene, rng, k, others=others) for k in (SOUNDS_LIKE[twin], (twin,))]
        if all(pair):
            asked += [(str(twin), bool(one[0].targets), one[0].text) for one in pair]
            count -= 1
        if not count:
            break
    return asked


@torch.inference_mode()
def tokens(model: CompactModel, tokenizer, given, rng):
    """(mask tokens [N, D] beside heat figures [N, 3], present [N], twin of each, source of each)."""
    found, present, twins, sources = [], [], [], []
    for number, (source, scene, others) in enumerate(given):
        asked = questions(scene, others, rng)
        if not asked:
            continue
        way = cv2.INTER_AREA if min(scene.image.shape[:2]) >= SIZE else cv2.INTER_LINEAR
        image = torch.from_numpy(cv2.resize(scene.image, (SIZE, SIZE), interpolation=way)).permute(2, 0, 1)
        encoded = tokenizer.encode_batch([text for _, _, text in asked])
        ids, mask = (torch.tensor([getattr(e, k) for e in encoded]) for k in ("ids", "attention_mask"))
        features = tuple(part.expand(len(asked), *part.shape[1:]) for part in model.encode_image(image[None]))
        kept = []
        handles = [
            part.register_forward_pre_hook(lambda _, inputs, kept=kept: kept.append(inputs[0]))
            for part in (model.found, model.found_heat)
        ]
        model.decode(features, model.encode_text(ids, mask.bool()), mask.bool())
        for handle in handles:
            handle.remove()
        found.append(torch.cat(kept, dim=1))
        twins += [twin for twin, _, _ in asked]
        present += [there for _, there, _ in asked]
        sources += [source] * len(asked)
        if number % 200 == 0:
            print(f"{number} pictures", flush=True)
    return torch.cat(found), np.array(present), np.array(twins), np.array(sources)


def weights(present, twins, sources) -> torch.Tensor:
    """Present and absent count the same within each twin of each source; a twin counts by its root."""
    made = np.zeros(len(present))
    for source in np.unique(sources):
        for twin in np.unique(twins):
            mine = (sources == source) & (twins == twin)
            for there in (True, False):
                chosen = mine & (present == there)
                if chosen.any():
                    made[chosen] = np.sqrt(mine.sum()) / chosen.sum()
    return torch.tensor(made / made.mean()).float()


def figures(logits, present, twins, sources) -> str:
    lines = []
    for source in np.unique(sources):
        mine = sources == source
        lines.append(f"{source}: AUROC {auroc(logits[mine], present[mine]):.3f}")
    for twin in SOUNDS_LIKE:
        mine = twins == twin
        if mine.any():
            said = logits[mine] > 0
            rates = f"{said[present[mine]].mean():.2f} and {said[~present[mine]].mean():.2f}"
            lines.append(
                f"{twin}: AUROC {auroc(logits[mine], present[mine]):.3f}, found there {rates} not there"
            )
    return "\n  ".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--photos", type=int, default=1500)
    parser.add_argument("--scenes", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    root = data_folder()
    if root is None:
        sys.exit("set IVM_DATA to the folder of the packs")
    flush_denormals()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    header = read_header(options.weights)
    config = CompactConfig(image_size=SIZE, **header.get("model", {}).get("sizes", {}))
    tokenizer = build_tokenizer(config)
    model = CompactModel(config, **frozen_parts(config)).eval()
    state = {key: value.float() for key, value in load_file(options.weights).items()}
    model.load_state_dict(state)
    rng = np.random.default_rng(options.seed)
    learnt = tokens(
        model, tokenizer, scenes(root, "train", options.photos, options.scenes, options.seed), rng
    )
    held = tokens(model, tokenizer, scenes(root, "val", 300, options.scenes // 6, options.seed + 1), rng)
    parts = {"found": model.found, "found_heat": model.found_heat}

    def head(x):
        token, heat = x.split((config.dim, x.shape[1] - config.dim), dim=1)
        return model.found(token) + model.found_heat(heat)

    with torch.inference_mode():
        print("before\n  " + figures(head(held[0])[:, 0].numpy(), *held[1:]))
    # The heat's three weights start at zero and have far to go.
    groups = [{"params": model.found.parameters()}, {"params": model.found_heat.parameters(), "rate": 30.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.05)
    x, truth, weight = learnt[0].clone(), torch.tensor(learnt[1]).float(), weights(*learnt[1:])
    for epoch in range(EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = group.get("rate", 1.0) * RATE * (1 - epoch / EPOCHS)
        for part in torch.randperm(len(x)).split(128):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                head(x[part])[:, 0], truth[part], weight[part]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.inference_mode():
        print("after\n  " + figures(head(held[0])[:, 0].numpy(), *held[1:]))
    for name, part in parts.items():
        state |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
    write_weights(options.out, state, header)


if __name__ == "__main__":
    main()
