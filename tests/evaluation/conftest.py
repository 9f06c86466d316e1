"""A fake LMM that looks at the pictures it is sent, and a V*Bench of a few made-up pictures for it."""

from __future__ import annotations

import base64
import json
import re
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from ivm.lmm import LMM

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220), "yellow": (240, 220, 30)}
URL = "http://localhost:1/v1"


class FakeLMM:
    """Answers by what it sees on the last picture: the letter of the colour that covers most of it, or yes or
    no, whether a colour that the question names covers a hundredth. Without a picture it judges: 1 for equal
    texts.

    Attributes:
        requests: the bodies that came.
        failures: statuses or exceptions for the next requests, None for an answer.
        talk: wraps an answer in words.
    """

    def __init__(self):
        self.requests, self.failures, self.talk = [], [], "{}"
        self.usage = {"prompt_tokens": 100, "completion_tokens": 2}
        self.finish_reason = "stop"
        self._lock = threading.Lock()

    def __call__(self, request):
        import httpx

        body = json.loads(request.content)
        with self._lock:
            self.requests.append(body)
            failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, BaseException):
            raise failure
        if failure is not None:
            return httpx.Response(failure, json={"error": {"message": f"status {failure}"}})
        choice = {"message": {"content": self.answer(body)}, "finish_reason": self.finish_reason}
        return httpx.Response(200, json={"choices": [choice], "model": "fake-1", "usage": self.usage})

    def answer(self, body):
        content = body["messages"][-1]["content"]
        if isinstance(content, str):
            reference, answer = re.findall(r"^(?:Reference|Answer to judge): (.*)$", content, re.MULTILINE)
            return f"I compared. Rating: [[{float(reference.lower() == answer.lower()):g}]]"
        text = content[-1]["text"]
        url = [part["image_url"]["url"] for part in content if part["type"] == "image_url"][-1]
        encoded = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
        pixels = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(int)
        shares = {name: (np.abs(pixels - rgb).max(axis=2) < 60).mean() for name, rgb in COLOURS.items()}
        most = max(shares, key=lambda name: shares[name])
        options = dict(re.findall(r"\(([A-J])\) (\w+)", text))
        if options:
            return self.talk.format(next(mark for mark, name in options.items() if name == most))
        if text.startswith("Is there"):
            there = any(shares[name] > 0.01 for name in COLOURS if name in text)
            return self.talk.format("Yes." if there else "No.")
        return self.talk.format(most)

    def client(self, **options):
        import httpx

        return LMM("fake", URL, transport=httpx.MockTransport(self), **{"retries": 0, **options})


@pytest.fixture
def fake_lmm():
    pytest.importorskip("httpx")
    return FakeLMM()


def picture(target, distractor=None, grey=128):
    """A small box of one colour, and perhaps a large one of another: uint8 [120, 160, 3]."""
    pixels = np.full((120, 160, 3), grey, np.uint8)
    if distractor:
        pixels[10:80, 90:150] = COLOURS[distractor]
    pixels[60:90, 20:50] = COLOURS[target]
    return pixels


@pytest.fixture
def vstar(tmp_path):
    """V*Bench in its publisher's form: six pictures, in four of which something large distracts."""
    root = tmp_path / "vstar_bench"
    lines = []
    plan = [
        ("red", "blue"),
        ("green", None),
        ("blue", "yellow"),
        ("yellow", "red"),
        ("red", None),
        ("green", "blue"),
    ]
    for number, (target, distractor) in enumerate(plan):
        kind = "direct_attributes" if number < 4 else "relative_position"
        (root / kind).mkdir(parents=True, exist_ok=True)
        name = f"{kind}/sa_{number}"
        pixels = picture(target, distractor, grey=110 + 5 * number)  # no two are alike
        Image.fromarray(pixels).save(root / f"{name}.jpg", quality=95)
        asked = f"What is the colour of the {target} box?"
        others = [colour for colour in COLOURS if colour != target]
        annotation = {
            "target_object": ["box"],
            "bbox": [[20, 60, 30, 30]],
            "question": asked,
            "options": [target, *others],
        }
        (root / f"{name}.json").write_text(json.dumps(annotation))
        options = [*others[: number % 4], target, *others[number % 4 :]]
        text = "\n".join([asked, *(f"({'ABCD'[i]}) {option}" for i, option in enumerate(options))])
        lines.append(
            {
                "image": f"{name}.jpg",
                "text": f"{text}\nAnswer with the option's letter from the given choices directly.",
                "category": kind,
                "label": "ABCD"[number % 4],
                "question_id": str(number),
            }
        )
    (root / "test_questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


@pytest.fixture
def pope(tmp_path):
    """POPE in its publisher's form: two files, whose questions about what is there are the same."""
    root = tmp_path / "pope"
    (root / "val2014").mkdir(parents=True)
    for number, colour in ((1, "red"), (2, "blue")):
        Image.fromarray(picture(colour)).save(root / "val2014" / f"COCO_val2014_{number:012}.jpg", quality=95)
    for split, absent in (("random", "green"), ("popular", "yellow")):
        lines = []
        for number, colour in ((1, "red"), (2, "blue")):
            for asked, label in ((colour, "yes"), (absent, "no")):
                lines.append(
                    {
                        "question_id": len(lines) + 1,
                        "image": f"COCO_val2014_{number:012}.jpg",
                        "text": f"Is there a {asked} box in the image?",
                        "label": label,
                    }
                )
        content = "".join(json.dumps(line) + "\n" for line in lines)
        (root / f"coco_pope_{split}.json").write_text(content)
    return root


@pytest.fixture
def egothink(tmp_path):
    """EgoThink in its publisher's form: two capabilities, in folders of one and two levels."""
    root = tmp_path / "EgoThink"
    for place, colours in (("Activity", ("red", "blue")), ("Object/attribute", ("green",))):
        (root / place / "images").mkdir(parents=True)
        items = []
        for number, colour in enumerate(colours, start=1):
            Image.fromarray(picture(colour)).save(root / place / "images" / f"{number}.jpg", quality=95)
            items.append(
                {
                    "source_dataset": "made up",
                    "image_path": [f"{number}.jpg"],
                    "question": f"What colour is the {colour} box?",
                    "answer": colour if number == 1 else "no colour",
                }
            )
        (root / place / "annotations.json").write_text(json.dumps(items))
    return root
