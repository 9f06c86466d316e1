"""The table of the kinds of instruction: group, what is asked, an example, and the maker of its drafts."""

from __future__ import annotations

from dataclasses import dataclass

from ivm.data import absences, commands, naming, places, questions
from ivm.data.drafts import Maker

__all__ = ["GROUPS", "KINDS", "SOUNDS_LIKE", "Kind"]

GROUPS: dict[str, float] = {
    "name": 0.15,
    "attribute": 0.16,
    "position": 0.14,
    "relation": 0.12,
    "group": 0.08,
    "command": 0.13,
    "question": 0.10,
    "absent": 0.12,
}
"""Group of kinds -> its share of the instructions, where scenes allow it."""


@dataclass(frozen=True)
class Kind:
    """A kind of instruction.

    Attributes:
        group: of GROUPS.
        asks: what it asks.
        example: one instruction, without manner.
        make: makes a draft, or None where the scene or the dice do not allow one.
        weight: how much likelier than another of its group that the scene allows.
    """

    group: str
    asks: str
    example: str
    make: Maker
    weight: float = 1.0


KINDS: dict[str, Kind] = {
    # names
    "category": Kind(
        "name", "everything of a name or of a more general name", "find the cup", naming.category
    ),
    "every": Kind("name", "all things of a name, said so", "all the cups", naming.every),
    "where": Kind(
        "name",
        "where a thing is",
        "where is the kettle?",
        questions.ask_about(
            *questions.WHERE,
            styles=("category", "category", "colour", "size", "superlative", "two qualities"),
        ),
    ),
    "written": Kind(
        "name", "the thing with certain words on it", 'the box that says "TEA"', naming.refer("written")
    ),
    "two things": Kind("name", "two things at once", "the cup and the red ball", naming.two),
    # attributes
    "colour": Kind("attribute", "a thing told by its colour", "the red cup", naming.refer("colour")),
    "size": Kind(
        "attribute", "a thing told as small or large of its name", "the small cup", naming.refer("size")
    ),
    "superlative": Kind(
        "attribute", "the biggest or smallest of a name", "the biggest cup", naming.refer("superlative")
    ),
    "material": Kind(
        "attribute", "a thing told by what it is made of", "the wooden block", naming.refer("material")
    ),
    "pattern": Kind("attribute", "a thing told by its pattern", "the striped mug", naming.refer("pattern")),
    "two qualities": Kind(
        "attribute", "a thing told by two attributes", "the small red cup", naming.refer("two qualities")
    ),
    "negated colour": Kind(
        "attribute", "the one that has not a colour", "the cup that is not red", naming.refer("negated")
    ),
    # positions
    "side": Kind("position", "the outermost of a name", "the leftmost cup", naming.refer("side")),
    "place": Kind(
        "position",
        "a thing told by its part of the picture",
        "the cup in the top left corner",
        naming.refer("place"),
    ),
    "closest": Kind(
        "position", "the closest to the camera, or the furthest", "the closest cup", naming.refer("closest")
    ),
    "ordinal": Kind(
        "position", "a thing told by counting", "the second cup from the left", naming.refer("ordinal")
    ),
    "part": Kind(
        "position", "a part of the picture, whatever is there", "the left half of the picture", places.part
    ),
    # relations
    "beside": Kind(
        "relation",
        "left of, right of, above or below another",
        "the cup left of the plate",
        naming.refer("beside"),
    ),
    "depth": Kind(
        "relation", "behind or in front of another", "the cup behind the box", naming.refer("depth")
    ),
    "support": Kind("relation", "on another", "the cup on the plate", naming.refer("support")),
    "inside": Kind("relation", "in another", "the ball in the bowl", naming.refer("inside")),
    "near": Kind("relation", "close to another", "the cup next to the plate", naming.refer("near")),
    "nearest": Kind(
        "relation",
        "of its name the nearest to another",
        "the cup nearest to the plate",
        naming.refer("nearest"),
    ),
    "between": Kind(
        "relation", "between two others", "the cup between the box and the can", naming.refer("between")
    ),
    "negated relation": Kind(
        "relation",
        "the one that is not so placed",
        "the cup that is not on the plate",
        naming.refer("negated relation"),
    ),
    # groups
    "group colour": Kind("group", "all of a name and colour", "all the red cups", naming.group_colour),
    "group but one": Kind(
        "group", "all of a name but one", "all the cups but the blue one", naming.group_but
    ),
    "group not": Kind(
        "group", "those of a name that have not a colour", "the cups that are not red", naming.group_not
    ),
    "group support": Kind(
        "group", "everything on or in another", "everything on the plate", naming.group_relation("on", "in")
    ),
    "group beside": Kind(
        "group",
        "all that are left of, right of ... another",
        "the cups left of the plate",
        naming.group_relation("left of", "right of", "above", "below", "behind", "in front of"),
    ),
    "group near": Kind(
        "group", "all that are close to another", "the cups near the plate", naming.group_relation("near")
    ),
    "group place": Kind(
        "group", "all that are in a part of the picture", "everything on the left", places.group_place
    ),
    # commands
    "pick": Kind(
        "command",
        "grasp a thing told by its name",
        "pick up the cup",
        commands.act(commands.PICK, "category"),
        weight=2.0,
    ),
    "pick attribute": Kind(
        "command",
        "grasp a thing told by colour, size, pattern or material",
        "pick up the red cup",
        commands.act(commands.PICK, "colour", "size", "pattern", "material", "two qualities", "superlative"),
    ),
    "pick position": Kind(
        "command",
        "grasp a thing told by position",
        "grab the leftmost cup",
        commands.act(commands.PICK, "side", "place", "closest", "ordinal"),
    ),
    "pick relation": Kind(
        "command",
        "grasp a thing told by another; both are targets",
        "take the cup next to the plate",
        commands.act(commands.PICK, "beside", "depth", "support", "inside", "near", "nearest", "between"),
    ),
    "hand over": Kind(
        "command",
        "bring a thing to the person",
        "give me the spoon",
        commands.act(commands.HAND, "category", "colour", "size", "side", "pattern"),
    ),
    "place on": Kind(
        "command",
        "put one thing on another",
        "put the cup on the plate",
        commands.pair(*commands.PUT_ON, needs="surface", already="on"),
    ),
    "place in": Kind(
        "command",
        "put one thing in another",
        "put the ball in the bowl",
        commands.pair(*commands.PUT_IN, needs="container", already="in"),
    ),
    "place by": Kind(
        "command",
        "put one thing beside another",
        "put the cup next to the plate",
        commands.pair(*commands.PUT_BY),
    ),
    "push to": Kind(
        "command", "push one thing to another", "push the can towards the box", commands.pair(*commands.PUSH)
    ),
    "push": Kind("command", "push a thing some way", "push the can to the left", commands.push_to_side),
    "stack": Kind(
        "command",
        "stack one thing on another",
        "stack the red block on the blue block",
        commands.pair(*commands.STACK, needs="stackable", already="on"),
    ),
    "swap": Kind(
        "command",
        "two things change places",
        "swap the cup and the bowl",
        commands.pair(*commands.SWAP, needs="graspable"),
    ),
    "pour": Kind(
        "command", "pour from one thing into another", "pour from the bottle into the cup", commands.pour
    ),
    "collect": Kind(
        "command", "bring all of a name to one place", "put all the blocks in the box", commands.collect
    ),
    "clear": Kind(
        "command", "take away what is on or in a thing", "take everything off the plate", commands.clear
    ),
    "two steps": Kind(
        "command", "one thing, then another", "first pick up the cup, then the spoon", commands.two_steps
    ),
    "something to eat": Kind(
        "command",
        "a use instead of a name",
        "I am hungry, give me something to eat",
        commands.something(
            "edible",
            "I am hungry, give me something to eat",
            "hand me something to eat",
            "find something I can eat",
            "show me everything edible",
            "put the food away",
            "take all that can be eaten",
        ),
    ),
    # questions
    "what colour": Kind(
        "question",
        "the colour of a thing",
        "what colour is the ball left of the can?",
        questions.ask_about(
            *questions.COLOURED,
            styles=(
                "category",
                "side",
                "superlative",
                "size",
                "place",
                "beside",
                "nearest",
                "support",
                "depth",
            ),
            needs="colour",
        ),
        weight=2.0,
    ),
    "what material": Kind(
        "question",
        "what a thing is made of",
        "what is the spoon made of?",
        questions.ask_about(
            "what {be} {x} made of?",
            "which material {be} {x} made of?",
            "what material {be} {x}?",
            needs="material",
            styles=("category", "colour", "side", "size"),
        ),
    ),
    "read": Kind(
        "question",
        "the words on a thing",
        "what does the label of the box say?",
        questions.ask_about(
            "what is written on {x}?",
            "read the text on {x}",
            "what {do} {x} say?",
            "read out the label of {x}",
            needs="text",
        ),
    ),
    "count": Kind(
        "question",
        "how many there are of a name",
        "how many cups are there?",
        questions.count(coloured=False),
    ),
    "count colour": Kind(
        "question",
        "how many there are of a name and colour",
        "how many red cups are there?",
        questions.count(coloured=True),
    ),
    "exists": Kind("question", "whether there is one", "is there a cup?", questions.exists_category),
    "exists colour": Kind(
        "question", "whether there is one of a colour", "is there a red cup?", questions.exists_colour
    ),
    "exists relation": Kind(
        "question",
        "whether there is one so placed",
        "is there a cup on the plate?",
        questions.exists_relation,
    ),
    "what is there": Kind(
        "question", "what is on, in, left of ... a thing", "what is on the plate?", questions.what_is
    ),
    "what is where": Kind(
        "question", "what is in a part of the picture", "what is on the left?", places.what_is_where
    ),
    "compare size": Kind(
        "question",
        "which of two is bigger",
        "which is bigger, the cup or the ball?",
        questions.compare(
            "which is bigger, {a} or {b}?",
            "{be} {a} bigger than {b}?",
            "{be} {a} smaller than {b}?",
            "which one is smaller: {a} or {b}?",
            "are {a} and {b} the same size?",
        ),
    ),
    "compare colour": Kind(
        "question",
        "whether two are of one colour",
        "do the cup and the plate have the same colour?",
        questions.compare(
            "do {a} and {b} have the same colour?",
            "are {a} and {b} of the same colour?",
            "{do} {a} match {b} in colour?",
            attribute="colour",
        ),
    ),
    "compare position": Kind(
        "question",
        "how two things stand to each other",
        "is the cup left of the plate?",
        questions.compare(
            "{be} {a} left of {b}?",
            "{be} {a} to the right of {b}?",
            "{be} {a} above or below {b}?",
            "{be} {a} next to {b}?",
            "how far {be} {a} from {b}?",
            "where {be} {a} relative to {b}?",
            "which is further left, {a} or {b}?",
            "{be} {a} touching {b}?",
        ),
    ),
    "compare distance": Kind(
        "question",
        "which of two is closer to the camera",
        "which is closer, the cup or the box?",
        questions.compare(
            "which is closer to the camera, {a} or {b}?",
            "{be} {a} in front of {b}?",
            "{be} {a} further away than {b}?",
            attribute="depth",
        ),
    ),
    "compare count": Kind(
        "question", "of which there are more", "are there more cups than plates?", questions.compare_count
    ),
    # absent
    "absent": Kind(
        "absent", "a name that nothing here has", "find the giraffe", absences.absent_category, weight=1.5
    ),
    "absent colour": Kind(
        "absent", "a thing in a colour that none has", "the green cup", absences.absent_colour, weight=2.5
    ),
    "absent quality": Kind(
        "absent",
        "a thing of a material or pattern that none has",
        "the striped cup",
        absences.absent_quality,
        weight=0.7,
    ),
    "absent relation": Kind(
        "absent",
        "things that are there, but not so placed",
        "the plate on the cup",
        absences.absent_relation,
        weight=1.5,
    ),
    "absent ordinal": Kind(
        "absent",
        "one more than there are",
        "the fourth cup from the left",
        absences.absent_ordinal,
        weight=0.2,
    ),
    "absent position": Kind(
        "absent",
        "the outermost or biggest of a name that nothing has",
        "the leftmost giraffe",
        absences.absent_position,
        weight=1.5,
    ),
    "absent command": Kind("absent", "grasp what is not there", "pick up the spoon", absences.absent_command),
    "absent exists": Kind(
        "absent",
        "whether there is one; there is none",
        "is there a giraffe?",
        absences.absent_exists,
        weight=0.45,
    ),
    "absent question": Kind(
        "absent",
        "where a thing is or of which colour; there is none",
        "where is the giraffe?",
        absences.absent_question,
        weight=0.3,
    ),
    "absent count": Kind(
        "absent",
        "how many there are; there are none",
        "how many giraffes are there?",
        absences.absent_count,
        weight=0.5,
    ),
}
"""Every kind of instruction, by name."""

SOUNDS_LIKE: dict[str, tuple[str, ...]] = {
    "absent": ("category", "where"),
    "absent colour": ("colour", "two qualities", "negated colour"),
    "absent quality": ("material", "pattern", "size"),
    "absent position": ("side", "superlative", "place"),
    "absent relation": ("beside", "near", "support", "inside", "depth", "nearest", "between"),
    "absent ordinal": ("ordinal",),
    "absent command": ("pick", "pick attribute", "pick position", "hand over", "push"),
    "absent question": ("what colour", "what material"),
    "absent exists": ("exists", "exists colour"),
    "absent count": ("count", "count colour"),
}
"""Kind of group "absent" -> those whose instructions sound so. By the weights above, each sound is about as
often in vain: or else a model learns from the sound alone, and never looks."""
