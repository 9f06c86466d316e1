"""Instructions to target phrases, and phrases to instructions, by rules: no network, no understanding.

`simplify` cuts a text into noun phrases at words that cannot be part of one (verbs, auxiliaries, pronouns,
conjunctions). It knows a few hundred English words. It does not know that "what could I drink from?" is
about a cup, what "it" stands for, or which thing an answer would be about. What it cannot cut it hands on as
it is, and says so. `compose` fills sentences; it makes no complex instruction. An LLM (`ivm.annotation.llm`)
is meant for both; this keeps the pipeline whole without one.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import cache
from itertools import pairwise

from ivm.annotation.phrases import Composed, Simplified
from ivm.data.colours import COLOURS
from ivm.data.words import affordances_of, all_nouns, is_mass, is_plural, plural, synonyms_of
from ivm.errors import DataError
from ivm.types import check_instruction

__all__ = ["compose", "simplify"]

_DETERMINERS = set(
    "the a an any some all every each this that these those my your his her its our their both".split()
)
_BREAKS = set(  # never inside a noun phrase
    "what which who whom whose where when why how is are was were be been do does did has have had can "
    "could will would shall should may might must am isn't aren't doesn't don't i you he she it we they "
    "me him us them there here someone something anything everything anyone everyone somebody nobody "
    "nothing itself and or but then so if while because than as not no yes please up down off out away "
    "over back also now just only really currently exactly most likely many much visible located called "
    "named say says said read reads mean means look looks see sees seen have has show shows shown stand "
    "stands sit sits wear wears worn hold holds held written placed lying appear appears happen happens "
    "used made touch touches fit fits belong belongs let let's i'd i'm it's that's what's where's who's "
    "go goes come comes , ; . ? ! :".split()
)
_RELATIONS = (  # between two noun phrases; the longest first
    "to the left of|to the right of|on the left side of|on the right side of|on the left of|"
    "on the right of|on top of|in front of|at the back of|left of|right of|next to|close to|closest to|"
    "nearest to|far from|furthest from|from|behind|above|below|under|beneath|underneath|beside|near|"
    "inside|into|onto|between|among|against|around|along|across|through|towards|toward|about|for|to|on|in|at|"
    "with|without|by|of"
).split("|")
_SPLIT_VERBS = set(
    "put place move pour stack set drop push pull slide insert throw bring sort transfer".split()
)
_VERBS = _SPLIT_VERBS | set(
    "find locate show tell give get grab grasp take pick lift fetch pass hand hold reach open close shut "
    "turn switch press touch clean wipe wash cut count point look identify describe name read select "
    "choose mark highlight segment mask outline detect spot search check watch keep remove clear collect "
    "fold unfold hang cover uncover feed pet fill empty twist rotate spin shake stir cook heat serve "
    "explain determine list focus zoom go walk drive navigate approach follow avoid stop arrange tidy "
    "flip swap compare".split()
)
# Nouns or adjectives, too: verbs only where a determiner, pronoun, particle or relation follows.
_DOUBTFUL_VERBS = set(
    "place hand watch cut turn set drop lift pass push pull press pour cover clean name count close open "
    "mask outline mark point pet show take look hold touch switch hang serve spot search list stop empty "
    "clear dry light brush paint water book face heat fold keep".split()
)
_ING_NOUNS = set(
    "building painting ceiling clothing wedding ring king string thing swing wing earring spring railing "
    "awning drawing sibling evening morning lightning icing pudding dressing stocking underclothing "
    "crossing carving padding bedding sibling frosting topping".split()
)
_GENERIC = set(  # say nothing of where to look
    "gripper picture image photo photograph photography scene view screenshot background foreground camera "
    "viewer question answer order way lot front back side kind type sort time color colour shape size "
    "number amount material brand name direction position place thing things object objects item items "
    "part region area details detail case day year reason purpose activity event mood atmosphere weather "
    "one ones total word words letter letters left right middle centre center top bottom corner".split()
)
_WHOLE = re.compile(
    r"\b(describe|caption|summari[sz]e|explain|analy[sz]e|tell me about|what is happening|what's happening|"
    r"what is going on|what's going on|what do you see|what can you see|write a|story|mood|atmosphere)\b"
)
# Targets that the words leave unsaid; a table of the commonest, not knowledge.
_UNSAID = (
    (re.compile(r"\bwhat time\b|\bthe time\b|\bwhat hour\b"), ("clock",)),
    (re.compile(r"\bweather\b|\bsunny\b|\bcloudy\b|\braining\b"), ("sky",)),
    (re.compile(r"\b(written|does it say|says?|spell(ed)?|read)\b"), ("text",)),
)
_IN_PICTURE = re.compile(
    r"\b(?:shown |visible |depicted |seen )?(?:in|on|of|from) (?:the|this|that|my) (?:given |whole )?"
    r"(?:picture|image|photo|photograph|scene|screenshot)\b"
)
_THAT_IS = re.compile(r"\b(\w+) (?:that|which) (?:is|are) (" + "|".join(COLOURS) + r")\b")
_FORM = re.compile(  # how to answer, not what about
    r"(?<![^.?!\n])[^.?!\n]*\b(single word or phrase|option'?s letter|"
    r"answer (the question|with|in|briefly)|be brief|short answer|reference ocr)\b[^.?!\n]*[.?!]?",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"^[^\S\n]*(?:\(?[A-H][.):]\s.*|options?:.*|choices?:.*)$", re.IGNORECASE | re.MULTILINE)
_LETTER = "[a-z0-9\u00df-\u00f6\u00f8-\u024f\u1e00-\u1eff]"  # Latin with all its accents: "jalapeño"
_TOKEN = re.compile(rf"{_LETTER}+(?:['’-]{_LETTER}+)*_?|[,;.?!:]")
_RELATION = re.compile(
    r"\b(" + "|".join(re.escape(words) for words in sorted(_RELATIONS, key=len, reverse=True)) + r")\b"
)


def simplify(instruction: str) -> Simplified:
    """Cut an instruction into target phrases.

    A place or relation stays with what it describes ("the cup left of the plate" is one phrase), except in
    commands that bring one thing to another and in questions with yes or no, which are about both.

    Raises:
        InstructionError: the instruction is empty or not text.
    """
    text = check_instruction(instruction)
    text = unicodedata.normalize("NFC", text)
    plain = _CHOICE.sub(" ", _FORM.sub(" ", text)).lower().replace("’", "'")
    plain = _IN_PICTURE.sub(" ", plain) if plain.strip() else text.lower()
    words = _words(_THAT_IS.sub(r"\2 \1", plain))
    first = next((word for word in words if word not in ("please", ",")), "")
    apart = (
        first in {"is", "are", "was", "were", "do", "does", "did", "has", "have"}
        or bool(_SPLIT_VERBS & set(words[:1] + [b for a, b in pairwise(words) if a in _STARTS]))
        or plain.strip().startswith("how many")
    )
    phrases = tuple(dict.fromkeys(filter(None, (_clean(chunk, apart) for chunk in _chunks(words, apart)))))
    if phrases:
        return Simplified(phrases, "rules")
    for pattern, targets in _UNSAID:
        if pattern.search(plain):
            return Simplified(targets, "rules", note="the target was guessed")
    if _WHOLE.search(plain) or _IN_PICTURE.search(text.lower()):
        return Simplified((), "rules", whole=True)
    return Simplified((text,), "rules", note="unchanged: no rule applies")


_SUBJECTS = {"i", "you", "he", "she", "it", "we", "they"}
_STARTS = {",", ";", ".", "?", "!", ":", "and", "then", "to", "please", "you", "or"}


def _words(plain: str) -> list[str]:
    """Tokens; a relation of several words is one, marked by a trailing "_"."""
    marked = _RELATION.sub(lambda found: found[0].replace(" ", "-") + "_", plain)
    return _TOKEN.findall(marked)


def _is_relation(word: str) -> bool:
    return word.endswith("_") or (word.endswith("ing") and len(word) > 5 and word not in _ING_NOUNS)


def _chunks(words: list[str], apart: bool) -> list[list[str]]:
    """Stretches between words that end a noun phrase; with `apart` relations do so, too."""
    chunks: list[list[str]] = [[]]
    start = True  # of a clause, where an imperative stands
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else ""
        after_subject = place > 0 and words[place - 1] in _SUBJECTS and word not in _DETERMINERS
        if after_subject or (start and _is_verb(word, following)):  # "what could I drink", "find the"
            chunks.append([])
            start = word in _STARTS
            continue
        relation = _is_relation(word)
        if word in _BREAKS or (relation and apart and word != "of_"):
            chunks.append([])
            start = word in _STARTS
            continue
        start = False
        last = chunks[-1][-1] if chunks[-1] else ""
        if word in _DETERMINERS and last and last not in _DETERMINERS and not _is_relation(last):
            chunks.append([])  # "juggle the ball": what comes before is no noun phrase
        chunks[-1].append(word)
    return chunks


def _is_verb(word: str, following: str) -> bool:
    if word not in _VERBS and word not in _DOUBTFUL_VERBS:
        return following in _DETERMINERS and word not in _BREAKS | _DETERMINERS and not _is_relation(word)
    follows = following in _DETERMINERS | _BREAKS or _is_relation(following)
    return word not in _DOUBTFUL_VERBS or follows


def _clean(chunk: list[str], apart: bool) -> str:
    """The phrase without determiners at its start and relations at its ends; empty if nothing is named."""
    while True:
        while chunk and (chunk[0] in _DETERMINERS or _is_relation(chunk[0]) or chunk[0] in ("there", "'s")):
            chunk = chunk[1:]
        while chunk and (_is_relation(chunk[-1]) or chunk[-1] in _DETERMINERS):
            chunk = chunk[:-1]
        if apart and chunk and chunk[-1] not in _heads():
            named = [place for place, word in enumerate(chunk) if word in _heads()]
            chunk = chunk[: named[-1] + 1] if named else chunk  # "is the car red?", "is the cat awake?"
        if chunk and all(word in _GENERIC or word in _DETERMINERS or _is_relation(word) for word in chunk):
            return ""
        if len(chunk) < 3 or chunk[0] not in _GENERIC or chunk[1] != "of_":
            break
        chunk = chunk[2:]  # "colour of the car"
    if len(chunk) == 1 and chunk[0] in COLOURS and chunk[0] != "orange":
        return f"{chunk[0]} thing"
    if chunk and all(word.isdigit() for word in chunk):
        return ""
    return " ".join(
        word.removesuffix("_").replace("-", " ") if word.endswith("_") else word for word in chunk
    )


@cache
def _heads() -> frozenset[str]:
    """Last words of the nouns that the package knows, singular and plural."""
    nouns = [noun.split()[-1] for noun in all_nouns()]
    return frozenset([*nouns, *(plural(noun) for noun in nouns)]) - set(COLOURS) | {"orange"}


_ANY = (
    "where {be} {x}?",
    "find {x}",
    "show me where {x} {be}",
    "can you point at {x}?",
    "describe {x} in detail",
    "look closely at {x}",
    "what colour {be} {x}?",
    "what can you tell me about {x}?",
)
_GRASPED = ("pick up {x}", "hand me {x}", "move the gripper to {x}")


def compose(phrase: str, count: int) -> Composed:
    """Up to `count` instructions about the thing that `phrase` names, from a table of sentences.

    The same phrase gives the same instructions.

    Raises:
        DataError: the phrase does not name exactly one thing.
        InstructionError: the phrase is empty or not text.
    """
    named = simplify(phrase)
    if len(named.phrases) != 1 or named.note:
        raise DataError(f"rules can only speak of one named thing, but {phrase!r} is not the name of one")
    noun = named.phrases[0]
    head = noun.split(" of ")[0].split()[-1] if " " in noun else noun
    graspable = any("graspable" in affordances_of(name) for name in (noun, head, *synonyms_of(head)))
    several = is_plural(head) or (not is_mass(head) and head.endswith("s") and plural(head[:-1]) == head)
    sentences = _ANY + (_GRASPED if graspable else ())
    order = sorted(sentences, key=lambda text: hashlib.sha256(f"{noun} {text}".encode()).digest())
    made = tuple(text.format(x=f"the {noun}", be="are" if several else "is") for text in order[:count])
    return Composed(made, "rules")
