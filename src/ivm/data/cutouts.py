"""Cut-outs: pictures of single things with alpha, named by their files.

A folder holds pictures and `names.json`: {file name without suffix: name}. Pictures with an alpha channel are
taken as they are; of those without (product photos on plain ground) the ground is removed.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ivm.data.packs import split_of
from ivm.errors import DataError

__all__ = ["Cutout", "plain_ground_alpha", "read_cutouts", "spoken_name"]

_SUFFIXES = (".webp", ".png", ".jpg", ".jpeg")
_MAX_SIDE = 4096

# What is a drawing of writing, of an idea or of an event, not of a thing that one could point at in a room.
_NO_PICTURE = re.compile(
    r"""\b(sign|symbol|squared|circled|keycap|ideograph|latin|katakana|ornament|emblem|mark|arrow|arrows|triangle|asterisk
    |clock\ face|flags?|skin\ tone|type-\d|pointing|loop|dash|bar\ chart|button|musical|chart|silhouette
    |no\ (bicycles|pedestrians|mobile|entry|smoking|one)|input|vibration|antenna|brightness|speaker\ with|exchange
    |fist|hands?|fingers?|backhand|index|palms?|shrug|person\ (bowing|climbing|doing|in|raising|with\ folded)|bowing
    |water\ polo|handball|racing$|suit$|star\ of|cross$|crescent$|yin|tray|slider|knobs|level)\b""",
    re.VERBOSE,
)
_NO_PICTURES = frozenset(
    """cyclone|foggy|fog|night with stars|sunrise over mountains|sunrise|cityscape at dusk|sunset over buildings|bridge at night
    |milky way|shooting star|globe with meridians|white sun with small cloud|white sun behind cloud
    |white sun behind cloud with rain|sun behind cloud|wind blowing face|herb|ear of rice|dango|oden
    |fish cake with swirl design|shaved ice|fork and knife|sake bottle and cup|clinking beer mugs|fork and knife with plate
    |fireworks|firework sparkler|confetti ball|tanabata tree|pine decoration|japanese dolls|carp streamer
    |moon viewing ceremony|reminder ribbon|cinema|performing arts|flower playing cards|chequered flag|ski and ski boot
    |field hockey stick and ball|ice hockey stick and puck|camping|beach with umbrella|building construction|cityscape
    |desert|national park|automated teller machine|label|badminton racquet and shuttlecock|pig nose|paw prints|eyes|eye|ear
    |nose|mouth|tongue|bust in silhouette|busts in silhouette|woman with bunny ears|japanese ogre|japanese goblin
    |information desk person|nail polish|face massage|haircut|barber pole|kiss mark|wedding|two hearts|sparkling heart
    |growing heart|revolving hearts|heart decoration|heart with arrow|heart with ribbon|beating heart
    |diamond shape with a dot inside|pile of poo|flexed biceps|white flower|money with wings|card index|bookmark tabs
    |name badge|outbox tray|inbox tray|mobile phone off|lock with ink pen|closed lock with key|link symbol
    |man in business suit levitating|reversed hand with middle finger extended|speaking head in silhouette|left speech bubble
    |right anger bubble|silhouette of japan|world map|person frowning|person with pouting face
    |happy person raising one hand|face with no good gesture|face with ok gesture|mountain railway|suspension railway|station
    |bus stop|restroom|water closet|passport control|customs|baggage claim|left luggage|place of worship|elevator|motorway
    |railway track|airplane departure|airplane arriving|sleeping accommodation|handshake|selfie|juggling|wrestlers
    |breast-feeding|pouring liquid|people hugging|deaf person|standing person|kneeling person|footprints|drop of blood|hole
    |splashing sweat symbol|dvd|hamsa|nazar amulet|aries|taurus|gemini|cancer|leo|virgo|libra|scorpius|sagittarius
    |capricorn|aquarius|pisces|ophiuchus|hot springs|wheel of dharma|sparkle|sparkles|snowflake|fleur-de-lis|cross mark
    |black nib|fountain|flag in hole|umbrella on ground|tropical drink with straw|black square for stop|black circle for record
    |double vertical bar|information source|x-ray|biting lip|empty nest|nest with eggs|microbe|dna double helix|petri dish
    |bubbles|skull and crossbones|chains|no entry|compression|identification card|low battery|kaaba|ringed planet|wood
    |hammer and wrench|hammer and pick|face palm|leg|foot|mechanical arm|mechanical leg|lungs|anatomical heart|brain
    |multiple musical notes|musical note|musical score|clinking glasses|couch and lamp|billed cap with
    |diya lamp|mate drink|fondue|tear-off calendar|film frames|admission tickets|rosette|knot|coral|mirror ball|martial arts uniform
    |goal net|lacrosse stick and ball|dotted line face|ear with hearing aid|pregnant person|person in steamy room|placard
    |probing cane|headstone|coffin|nut and bolt|smoking symbol|radio button|statue of liberty|tokyo tower|mount fuji
    |shinto shrine|minidisc|videocassette|pager|card index dividers|running shirt with sash|bento box|rice cracker|bell with cancellation stroke
    |menorah with nine branches|six pointed star with middle dot|children crossing|ballot box with check
    |heavy multiplication x|eight pointed black star|heavy large circle|staff of aesculapius|alembic|comet""".replace(
        "\n    ", ""
    ).split("|")
)

_SPOKEN = {
    "playing card black joker": "playing card",
    "mahjong tile red dragon": "mahjong tile",
    "closed umbrella": "umbrella",
    "umbrella with rain drops": "umbrella",
    "water wave": "wave",
    "earth globe europe-africa": "globe",
    "earth globe americas": "globe",
    "earth globe asia-australia": "globe",
    "new moon with face": "moon",
    "full moon with face": "moon",
    "first quarter moon with face": "crescent moon",
    "last quarter moon with face": "crescent moon",
    "sun with face": "sun",
    "black sun with rays": "sun",
    "glowing star": "star",
    "white medium star": "star",
    "cloud with rain": "rain cloud",
    "cloud with snow": "rain cloud",
    "cloud with lightning": "storm cloud",
    "thunder cloud and rain": "storm cloud",
    "cloud with tornado": "tornado",
    "evergreen tree": "fir tree",
    "deciduous tree": "tree",
    "hot pepper": "chili pepper",
    "ear of maize": "corn cob",
    "four leaf clover": "clover",
    "fallen leaf": "leaf",
    "leaf fluttering in wind": "leaf",
    "leafy green": "lettuce",
    "red apple": "apple",
    "green apple": "apple",
    "slice of pizza": "slice of pizza",
    "meat on bone": "meat on the bone",
    "poultry leg": "chicken leg",
    "cooked rice": "rice bowl",
    "curry and rice": "curry",
    "steaming bowl": "noodle soup",
    "roasted sweet potato": "sweet potato",
    "soft ice cream": "ice cream cone",
    "custard": "pudding",
    "shortcake": "slice of cake",
    "pot of food": "cooking pot",
    "cooking": "frying pan",
    "shallow pan of food": "frying pan",
    "teacup without handle": "teacup",
    "tropical drink": "cocktail",
    "baby bottle": "baby bottle",
    "bottle with popping cork": "champagne bottle",
    "wrapped present": "present",
    "father christmas": "santa claus",
    "mother christmas": "mrs claus",
    "school satchel": "backpack",
    "studio microphone": "microphone",
    "fishing pole and fish": "fishing rod",
    "headphone": "headphones",
    "artist palette": "palette",
    "clapper board": "clapperboard",
    "direct hit": "dartboard",
    "billiards": "billiard ball",
    "game die": "die",
    "bowling": "bowling ball",
    "musical keyboard": "piano",
    "tennis racquet and ball": "tennis racket",
    "basketball and hoop": "basketball",
    "rugby football": "rugby ball",
    "racing motorcycle": "motorcycle",
    "cricket bat and ball": "cricket bat",
    "table tennis paddle and ball": "table tennis bat",
    "snow capped mountain": "mountain",
    "house buildings": "houses",
    "derelict house building": "house",
    "house building": "house",
    "house with garden": "house",
    "classical building": "temple",
    "hindu temple": "temple",
    "japanese post office": "post office",
    "european post office": "post office",
    "love hotel": "hotel",
    "izakaya lantern": "lantern",
    "japanese castle": "castle",
    "european castle": "castle",
    "spiral shell": "shell",
    "bug": "caterpillar",
    "honeybee": "bee",
    "lady beetle": "ladybird",
    "hatching chick": "chick",
    "baby chick": "chick",
    "front-facing baby chick": "chick",
    "dromedary camel": "camel",
    "bactrian camel": "camel",
    "spouting whale": "whale",
    "dove of peace": "dove",
    "frog face": "frog",
    "womans hat": "sun hat",
    "eyeglasses": "eyeglasses",
    "womans clothes": "blouse",
    "mans shoe": "brown shoe",
    "womans sandal": "sandal",
    "womans boots": "boot",
    "bride with veil": "bride",
    "person with blond hair": "person",
    "bearded person": "person",
    "person with headscarf": "person",
    "person in lotus position": "person",
    "adult": "person",
    "older adult": "person",
    "man with gua pi mao": "man",
    "man with turban": "man",
    "man in tuxedo": "man",
    "man dancing": "dancer",
    "pregnant man": "man",
    "pregnant woman": "woman",
    "person with crown": "prince",
    "person with ball": "basketball player",
    "baby angel": "angel",
    "extraterrestrial alien": "alien",
    "alien monster": "alien",
    "guardsman": "guard",
    "sleuth or spy": "detective",
    "mage": "wizard",
    "merperson": "mermaid",
    "love letter": "letter",
    "gem stone": "gemstone",
    "electric light bulb": "light bulb",
    "droplet": "drop",
    "speech balloon": "speech bubble",
    "thought balloon": "thought bubble",
    "banknote with yen sign": "stack of banknotes",
    "banknote with dollar sign": "stack of banknotes",
    "banknote with euro sign": "stack of banknotes",
    "banknote with pound sign": "stack of banknotes",
    "personal computer": "laptop",
    "optical disc": "disc",
    "file folder": "folder",
    "open file folder": "folder",
    "page with curl": "sheet of paper",
    "page facing up": "sheet of paper",
    "round pushpin": "pushpin",
    "straight ruler": "ruler",
    "triangular ruler": "set square",
    "notebook with decorative cover": "notebook",
    "closed book": "book",
    "open book": "book",
    "green book": "book",
    "blue book": "book",
    "orange book": "book",
    "memo": "notepad",
    "spiral note pad": "notepad",
    "spiral calendar pad": "calendar",
    "satellite antenna": "satellite dish",
    "public address loudspeaker": "loudspeaker",
    "cheering megaphone": "megaphone",
    "incoming envelope": "envelope",
    "closed mailbox with lowered flag": "mailbox",
    "closed mailbox with raised flag": "mailbox",
    "open mailbox with raised flag": "mailbox",
    "open mailbox with lowered flag": "mailbox",
    "postal horn": "horn",
    "mobile phone": "cell phone",
    "camera with flash": "camera",
    "electric plug": "plug",
    "left-pointing magnifying glass": "magnifying glass",
    "right-pointing magnifying glass": "magnifying glass",
    "lock": "padlock",
    "open lock": "padlock",
    "electric torch": "flashlight",
    "hocho": "kitchen knife",
    "pistol": "water pistol",
    "large red circle": "ball",
    "large blue circle": "ball",
    "large orange circle": "ball",
    "large yellow circle": "ball",
    "large green circle": "ball",
    "large purple circle": "ball",
    "large brown circle": "ball",
    "medium white circle": "ball",
    "medium black circle": "ball",
    "large red square": "square",
    "large blue square": "square",
    "large orange square": "square",
    "large yellow square": "square",
    "large green square": "square",
    "large purple square": "square",
    "large brown square": "square",
    "black large square": "square",
    "white large square": "square",
    "black medium square": "square",
    "white medium square": "square",
    "black small square": "square",
    "white small square": "square",
    "white medium small square": "square",
    "black medium small square": "square",
    "large orange diamond": "diamond",
    "large blue diamond": "diamond",
    "small orange diamond": "diamond",
    "small blue diamond": "diamond",
    "up-pointing red triangle": "triangle",
    "down-pointing red triangle": "triangle",
    "up-pointing small red triangle": "triangle",
    "down-pointing small red triangle": "triangle",
    "black spade suit": "spade",
    "black club suit": "club",
    "black heart suit": "heart",
    "black diamond suit": "diamond",
    "heavy black heart": "heart",
    "black heart": "heart",
    "white heart": "heart",
    "brown heart": "heart",
    "blue heart": "heart",
    "green heart": "heart",
    "yellow heart": "heart",
    "purple heart": "heart",
    "orange heart": "heart",
    "broken heart": "broken heart",
    "red gift envelope": "envelope",
    "dark sunglasses": "sunglasses",
    "linked paperclips": "paperclip",
    "lower left ballpoint pen": "ballpoint pen",
    "lower left fountain pen": "fountain pen",
    "lower left paintbrush": "paintbrush",
    "lower left crayon": "crayon",
    "three button mouse": "computer mouse",
    "frame with picture": "picture frame",
    "card file box": "card box",
    "file cabinet": "filing cabinet",
    "wastebasket": "waste bin",
    "old key": "key",
    "rolled-up newspaper": "newspaper",
    "dagger knife": "dagger",
    "ballot box with ballot": "ballot box",
    "moyai": "stone head",
    "see-no-evil monkey": "monkey",
    "hear-no-evil monkey": "monkey",
    "speak-no-evil monkey": "monkey",
    "railway car": "tram",
    "high-speed train": "train",
    "high-speed train with bullet nose": "train",
    "metro": "train",
    "light rail": "train",
    "tram car": "tram",
    "oncoming bus": "bus",
    "oncoming police car": "police car",
    "oncoming taxi": "taxi",
    "automobile": "car",
    "oncoming automobile": "car",
    "recreational vehicle": "jeep",
    "articulated lorry": "lorry",
    "mountain cableway": "cable car",
    "aerial tramway": "cable car",
    "horizontal traffic light": "traffic light",
    "vertical traffic light": "traffic light",
    "police cars revolving light": "siren",
    "bicyclist": "cyclist",
    "mountain bicyclist": "cyclist",
    "octagonal sign": "stop sign",
    "bath": "bathtub",
    "bellhop bell": "bell",
    "shopping trolley": "shopping trolley",
    "playground slide": "slide",
    "ring buoy": "lifebuoy",
    "small airplane": "airplane",
    "motor boat": "motor boat",
    "flying saucer": "ufo",
    "auto rickshaw": "rickshaw",
    "robot face": "robot",
    "clown face": "clown",
    "first place medal": "medal",
    "second place medal": "medal",
    "third place medal": "medal",
    "tumbler glass": "tumbler",
    "drum with drumsticks": "drum",
    "flying disc": "frisbee",
    "baguette bread": "baguette",
    "green salad": "salad",
    "bowl with spoon": "bowl",
    "cup with straw": "cup with a straw",
    "cut of meat": "steak",
    "canned food": "can",
    "kiwifruit": "kiwi",
    "cheese wedge": "cheese",
    "beverage box": "juice carton",
    "billed cap": "cap",
    "jigsaw puzzle piece": "puzzle piece",
    "roll of paper": "toilet roll",
    "bar of soap": "bar of soap",
    "one-piece swimsuit": "swimsuit",
    "thong sandal": "flip-flop",
    "adhesive bandage": "plaster",
    "military helmet": "helmet",
    "helmet with white cross": "helmet",
    "carpentry saw": "saw",
    "sewing needle": "needle",
    "motorized wheelchair": "wheelchair",
    "manual wheelchair": "wheelchair",
    "black telephone": "telephone",
    "hot beverage": "cup of coffee",
    "hourglass with flowing sand": "hourglass",
    "timer clock": "timer",
    "snowman without snow": "snowman",
    "black chess pawn": "chess pawn",
    "black scissors": "scissors",
    "pick": "pickaxe",
    "nesting dolls": "nesting doll",
    "funeral urn": "urn",
    "luggage": "suitcase",
    "gloves": "gloves",
    "gift": "present",
    "wilted flower": "wilted rose",
    # products of a grocery store
    "anjou": "pear",
    "conference": "pear",
    "kaiser": "pear",
    "golden delicious": "apple",
    "granny smith": "apple",
    "pink lady": "apple",
    "red delicious": "apple",
    "royal gala": "apple",
    "galia melon": "melon",
    "honeydew melon": "melon",
    "red grapefruit": "grapefruit",
    "brown cap mushroom": "mushroom",
    "yellow onion": "onion",
    "red beet": "beetroot",
}
_GROCERY = (
    ("juice", "juice carton"),
    ("smooth", "juice carton"),
    ("mandarin morning", "juice carton"),
    ("golden grapefruit", "juice carton"),
    ("milk", "milk carton"),
    ("yoghurt", "pot of yoghurt"),
    ("ghurt", "pot of yoghurt"),
    ("sour cream", "pot of sour cream"),
    ("bell pepper", "bell pepper"),
    ("sweet potato", "sweet potato"),
    ("potato", "potato"),
    ("tomato", "tomato"),
)
_SMILEYS = re.compile(r"\bface\b|^rolling on the floor")
_CATS = re.compile(r"\bcat face\b|^cat face")


def spoken_name(raw: str) -> str | None:
    """The noun that people say for a file's name, or None if it pictures no thing that one could point at.

    Rule (ours): names of writing, signs, symbols, arrows, flags, zodiac and clock faces, gestures, parts of a face,
    skin-tone variants, events and views ("sunrise", "cinema") are skipped; Unicode's descriptive names become the
    plain noun ("closed mailbox with raised flag" -> "mailbox"); an animal's face is called by the animal; every
    other face is a "smiley".
    """
    name = raw.strip().lower().replace("_", " ").replace("’", "'")
    if name in _SPOKEN:
        return _SPOKEN[name]
    if name in _NO_PICTURES:
        return None
    for part, spoken in _GROCERY:
        if name.endswith(part) and name != part:
            return spoken
    if _SMILEYS.search(name):
        if _CATS.search(name) and name != "cat face":
            return "smiley cat"
        animal = name.removesuffix(" face")
        if animal in _FACED:
            return animal
        return "smiley"
    if _NO_PICTURE.search(name):
        return None
    return name


_FACED = frozenset(
    """mouse cow tiger rabbit cat dragon horse monkey dog pig hamster wolf bear panda lion unicorn fox giraffe
    zebra""".split()
)


@dataclass(frozen=True)
class Cutout:
    """One file of a folder of cut-outs; pixels are read on demand.

    Attributes:
        pack: the folder's name.
        file_name: with suffix; the split goes by it.
        name: spoken name.
    """

    pack: str
    file_name: str
    path: Path
    name: str

    @property
    def split(self) -> str:
        """ "train", "val" or "test", by pack and file name."""
        return split_of(self.pack, self.file_name)

    def rgba(self, longest: int = 128) -> np.ndarray:
        """uint8 [H, W, 4], cropped to what is opaque, its longest side at most `longest`.

        Raises:
            DataError: the file is missing or damaged, or nothing in it is opaque.
        """
        try:
            pixels = cv2.imdecode(np.fromfile(self.path, np.uint8), cv2.IMREAD_UNCHANGED)
        except (OSError, cv2.error) as error:
            raise DataError(f"cut-out {self.path} cannot be read: {error}") from error
        if pixels is None or pixels.dtype != np.uint8:
            raise DataError(f"cut-out {self.path} is not an 8-bit picture that can be read")
        if max(pixels.shape[:2]) > _MAX_SIDE:
            raise DataError(
                f"cut-out {self.path} is {pixels.shape[1]}x{pixels.shape[0]}: at most {_MAX_SIDE} are read"
            )
        if pixels.ndim == 2:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
        if pixels.shape[2] == 4:
            rgba = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
        else:
            rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
            rgba = np.dstack([rgb, plain_ground_alpha(rgb)])
        solid = rgba[:, :, 3] > 127
        rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
        if rows.size < 4 or columns.size < 4:
            raise DataError(f"cut-out {self.path} has no opaque part of at least 4x4 pixels")
        rgba = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        scale = longest / max(rgba.shape[:2])
        if scale < 1:
            size = (max(4, round(rgba.shape[1] * scale)), max(4, round(rgba.shape[0] * scale)))
            rgba = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(rgba)


def plain_ground_alpha(rgb_HW3: np.ndarray, tolerance: int = 14) -> np.ndarray:
    """uint8 [H, W] alpha of a thing on plain ground: what is like the border and joined to it becomes clear.

    Args:
        rgb_HW3: uint8.
        tolerance: largest difference to the border's median colour, in each channel, in [0, 255].
    """
    border = np.concatenate([rgb_HW3[0], rgb_HW3[-1], rgb_HW3[:, 0], rgb_HW3[:, -1]])
    ground = np.median(border, axis=0)
    like = (np.abs(rgb_HW3.astype(np.int16) - ground.astype(np.int16)).max(axis=2) <= tolerance).astype(
        np.uint8
    )
    like = np.pad(like, 1, constant_values=1)  # so that one flood reaches every side
    _, labels = cv2.connectedComponents(like, connectivity=4)
    solid = (labels[1:-1, 1:-1] != labels[0, 0]).astype(np.uint8)
    solid = cv2.morphologyEx(solid, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    solid = cv2.erode(solid, np.ones((3, 3), np.uint8))  # the outermost ring is mixed with the ground
    return cv2.GaussianBlur(solid * 255, (3, 3), 0)


def read_cutouts(folder: str | os.PathLike[str], split: str | None = None) -> list[Cutout]:
    """The usable cut-outs of a folder, sorted by file name.

    Args:
        folder: holds pictures and `names.json`; without that file, file names are the names.
        split: "train", "val" or "test"; None for all.

    Raises:
        DataError: the folder is missing, names.json is malformed, or no picture is usable.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"the folder of cut-outs {folder} does not exist")
    names: dict[str, str] = {}
    file = folder / "names.json"
    if file.is_file():
        try:
            names = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{file} is not JSON: {error}") from error
        if not isinstance(names, dict) or not all(isinstance(value, str) for value in names.values()):
            raise DataError(f'{file} must map file names to names, such as {{"1f34c": "banana"}}')
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES:
            continue
        name = spoken_name(names.get(path.stem, path.stem.replace("-", " ")))
        cutout = None if name is None else Cutout(folder.name, path.name, path, name)
        if cutout and (split is None or cutout.split == split):
            found.append(cutout)
    if not found:
        raise DataError(f"{folder} holds no usable cut-out" + (f" of the split {split!r}" if split else ""))
    return found
