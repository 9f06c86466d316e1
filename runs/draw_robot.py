"""Draw the picture of docs/robot.md: the tabletop environment as it is, masked by a model, masked truly.

    python runs/draw_robot.py --output docs/pictures/robot.webp

A column a task; rows: the side camera's picture, masked by the model, masked by the simulation's true masks,
and the wrist camera's picture masked by the model. The expert has acted for some steps, so the robot is near.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from ivm import load
from ivm.images import write_image
from ivm.robot.expert import expert_actions
from ivm.robot.masking import MaskSettings, StreamMasker, mask_picture
from ivm.robot.tabletop import TabletopEnv
from ivm.types import Heatmap

SEEDS = {"reach": 21, "push": 24, "pick": 30, "place": 12}
STEPS = {"reach": 4, "push": 8, "pick": 8, "place": 20}
GAP, HEAD, LEFT = 6, 26, 24
ROWS = ("side camera", "masked by {}", "masked truly", "wrist, masked by {}")


def column(task: str, seed: int, model: str, size: int) -> tuple[str, list[np.ndarray]]:
    """The instruction and the four pictures of a task, each uint8 [size, size, 3]."""
    env = TabletopEnv(task, distractors=(5, 7), size=size)
    observation, _ = env.reset(seed=seed)
    for _, action in zip(range(STEPS[task]), expert_actions(env), strict=False):
        observation, *_ = env.step(action)
    settings = MaskSettings(every=1)
    pictures = {camera: observation[camera] for camera in ("side", "wrist")}
    masked = StreamMasker(load(model), settings)(pictures, observation["instruction"], env.robot_mask)
    true = Heatmap.from_mask(env.relevant_mask("side"))
    truly = mask_picture(pictures["side"], true, env.robot_mask("side"), settings)
    env.close()
    return observation["instruction"], [pictures["side"], masked["side"], truly, masked["wrist"]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("robot.webp"))
    parser.add_argument("--model", default="compact")
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    columns = [column(task, seed, options.model, options.size) for task, seed in SEEDS.items()]
    side = options.size
    width = LEFT + len(columns) * (side + GAP) - GAP
    sheet = np.full((HEAD + 4 * (side + GAP) - GAP, width, 3), 255, np.uint8)
    for i, (instruction, pictures) in enumerate(columns):
        x = LEFT + i * (side + GAP)
        scale = min(0.45, 0.45 * side / max(1, cv2.getTextSize(instruction, 0, 0.45, 1)[0][0] + 4))
        cv2.putText(sheet, instruction, (x + 2, 17), 0, scale, (30, 30, 30), 1, cv2.LINE_AA)
        for k, picture in enumerate(pictures):
            y = HEAD + k * (side + GAP)
            sheet[y : y + side, x : x + side] = picture
            cv2.rectangle(sheet, (x, y), (x + side - 1, y + side - 1), (200, 200, 200), 1)
    for k, row in enumerate(ROWS):
        label = np.full((LEFT - 4, side, 3), 255, np.uint8)
        cv2.putText(label, row.format(options.model), (4, 14), 0, 0.45, (30, 30, 30), 1, cv2.LINE_AA)
        y = HEAD + k * (side + GAP)
        sheet[y : y + side, : LEFT - 4] = np.rot90(label)
    write_image(sheet, options.output)
    print(options.output)


if __name__ == "__main__":
    main()
