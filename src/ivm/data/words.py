"""English nouns: what else a thing is called, plurals, articles, and what can be done with it.

The one owner of vocabulary for photos, cut-outs and tabletop. Nothing here looks at pixels.
"""

from __future__ import annotations

from functools import cache

__all__ = [
    "NOUNS",
    "SYNONYMS",
    "affordances_of",
    "article",
    "is_mass",
    "is_plural",
    "is_stuff",
    "might_be",
    "nouns_for",
    "plural",
]


def _nouns(text: str) -> tuple[str, ...]:
    return tuple(noun.strip() for noun in text.replace("\n", " ").split(",") if noun.strip())


SYNONYMS: dict[str, tuple[str, ...]] = {
    name: _nouns(others)
    for name, others in {
        "airplane": "plane, aeroplane",
        "athletic shoe": "sneaker, trainer",
        "aubergine": "eggplant",
        "automated teller machine": "cash machine",
        "backpack": "rucksack, school bag",
        "bicycle": "bike",
        "bottle of milk": "baby bottle",
        "candy": "sweet",
        "car": "automobile",
        "cell phone": "phone, mobile phone, smartphone",
        "chips": "french fries, fries",
        "computer mouse": "mouse",
        "couch": "sofa",
        "crisps": "potato chips",
        "diaper": "nappy",
        "dining table": "table",
        "doughnut": "donut",
        "donut": "doughnut",
        "eyeglasses": "glasses, spectacles",
        "french fries": "fries, chips",
        "fire engine": "fire truck",
        "flashlight": "torch",
        "frisbee": "flying disc",
        "globe": "earth",
        "hair drier": "hair dryer",
        "handbag": "purse",
        "hamburger": "burger",
        "jumper": "pullover, sweater",
        "ladybird": "ladybug",
        "laptop": "computer, notebook computer",
        "desktop computer": "computer",
        "lorry": "truck",
        "magnifying glass": "magnifier",
        "motorcycle": "motorbike",
        "necktie": "tie",
        "pants": "trousers",
        "pavement": "sidewalk",
        "person": "human",
        "playing field": "field",
        "postbox": "mailbox, letter box",
        "potted plant": "plant",
        "present": "gift",
        "purse": "handbag",
        "refrigerator": "fridge",
        "remote": "remote control",
        "rug": "carpet",
        "sea": "ocean",
        "shopping trolley": "shopping cart",
        "smiley": "emoji, smiley face",
        "soccer ball": "football",
        "sofa": "couch",
        "stop sign": "traffic sign",
        "suitcase": "case",
        "television": "tv, television set",
        "tennis racket": "racket",
        "tie": "necktie",
        "waste bin": "bin, trash can, wastebasket",
        "wrench": "spanner",
        "zucchini": "courgette",
    }.items()
}
"""Name -> nouns that mean the same."""

# Group -> its members; every member may be called by the group's name ("the animal").
_GROUPS: dict[str, tuple[str, ...]] = {
    group: _nouns(members)
    for group, members in {
        "animal": """ox, water buffalo, cow, tiger, leopard, rabbit, cat, dog, crocodile, whale, snail, snake, horse, ram,
            goat, sheep, monkey, pig, boar, elephant, octopus, turtle, koala, camel, dolphin, frog, hamster, wolf,
            bear, panda, chipmunk, crab, lion, scorpion, bat, shark, fox, deer, gorilla, lizard, rhinoceros, squid,
            giraffe, zebra, hedgehog, kangaroo, llama, hippopotamus, raccoon, lobster, badger, mammoth, sloth,
            otter, orangutan, skunk, beaver, bison, seal, rat, spider, worm, poodle, bird, fish, insect""",
        "bird": """rooster, chicken, chick, penguin, turkey, eagle, duck, owl, peacock, parrot, swan, dodo, flamingo,
            dove""",
        "fish": "tropical fish, blowfish",
        "dog": "poodle, guide dog",
        "insect": "ant, bee, ladybird, butterfly, cricket, mosquito, fly, beetle, cockroach",
        "dinosaur": "sauropod, t-rex",
        "fruit": """grapes, melon, watermelon, tangerine, lemon, banana, pineapple, apple, pear, peach, cherries,
            strawberry, kiwi, mango, lime, cantaloupe, nectarine, orange, papaya, passion fruit, plum,
            pomegranate, grapefruit, satsumas, blueberries""",
        "vegetable": """aubergine, carrot, broccoli, cucumber, onion, garlic, potato, sweet potato, bell pepper, cabbage,
            asparagus, leek, zucchini, beetroot, lettuce, carrots""",
        "food": """fruit, vegetable, tomato, avocado, mushroom, corn cob, hamburger, slice of pizza, pizza, chicken leg,
            rice ball, bread, french fries, sushi, ice cream, ice cream cone, doughnut, donut, cookie, chocolate bar,
            candy, lollipop, pudding, cake, slice of cake, birthday cake, popcorn, hot dog, taco, burrito, sandwich,
            croissant, bacon, baguette, salad, egg, peanuts, pancakes, dumpling, fortune cookie, pie, pretzel,
            steak, bagel, cheese, cupcake, waffle, butter, flatbread, tamale, beans, olive, chili pepper,
            spaghetti, rice cracker, falafel, moon cake, stuffed flatbread, curry, rice bowl, noodle soup,
            meat on the bone, fried shrimp""",
        "drink": """cocktail, beer mug, juice carton, bubble tea, cup of coffee, glass of milk, milk carton,
            cup with a straw""",
        "vehicle": """car, bus, truck, train, tram, van, ambulance, fire engine, police car, taxi, tractor, lorry,
            motorcycle, bicycle, scooter, motor scooter, racing car, pickup truck, minibus, trolleybus, jeep,
            delivery truck, rickshaw, steam locomotive, airplane, helicopter, boat, ship""",
        "car": "taxi, police car, racing car, jeep",
        "bus": "minibus, trolleybus",
        "truck": "pickup truck, delivery truck, lorry, fire engine",
        "train": "steam locomotive, high-speed train, monorail",
        "boat": "sailboat, speedboat, motor boat, canoe, rowboat",
        "ship": "passenger ship, ferry",
        "building": """house, castle, church, mosque, synagogue, temple, hospital, bank, hotel, school, factory, office
            building, department store, post office, convenience store, hut, stadium, shrine""",
        "person": """man, woman, boy, girl, baby, police officer, construction worker, prince, princess, bride, older man,
            older woman, dancer, runner, surfer, swimmer, golfer, skier, snowboarder, cyclist, ninja, superhero, guard,
            detective, fencer, child, weight lifter, juggler, pedestrian, mage, wizard""",
        "plant": "potted plant, cactus, flower, tree, seedling, clover, shamrock",
        "flower": "tulip, rose, hibiscus, sunflower, cherry blossom, blossom, lotus",
        "tree": "fir tree, palm tree, christmas tree",
        "ball": """soccer ball, basketball, baseball, volleyball, softball, american football, rugby ball, billiard ball,
            sports ball, bowling ball, tennis ball""",
        "musical instrument": """saxophone, guitar, piano, trumpet, violin, drum, banjo, accordion, long drum""",
        "tool": """hammer, wrench, screwdriver, saw, axe, pickaxe, clamp, ladder, plunger""",
        "piece of clothing": """shirt, t-shirt, jeans, dress, kimono, bikini, blouse, coat, jacket, sweater, skirt, shorts, socks,
            gloves, scarf, lab coat, sari, swimsuit, pants, blazer, cardigan, hoodie, vest, jumper, sweatshirt,
            leggings, tights, stockings, romper, suit, cape, bodysuit, top, safety vest""",
        "hat": "top hat, cap, graduation cap, helmet, sun hat",
        "shoe": "athletic shoe, high-heeled shoe, sandal, boot, hiking boot, flip-flop, flat shoe, brown shoe",
        "shoes": "boots, heels, sandals, flats, sneakers, pumps, wedges, loafers, clogs, ballet shoes",
        "bag": "handbag, purse, backpack, pouch, shopping bags, briefcase, suitcase, wallet",
        "clock": "alarm clock, mantelpiece clock, timer, stopwatch",
        "computer": "laptop, desktop computer",
        "camera": "video camera, movie camera",
        "book": "notebook, ledger",
        "cup": "mug, teacup, cup of coffee, beer mug, cup with a straw",
        "glass": "wine glass, cocktail glass, tumbler, glass of milk",
        "bottle": "champagne bottle, baby bottle, lotion bottle",
        "pan": "frying pan",
        "pot": "cooking pot",
        "knife": "kitchen knife, dagger",
        "box": "toolbox, takeout box, package, milk carton, juice carton, ballot box",
        "chair": "seat, wheelchair",
        "table": "dining table",
        "wall": "brick wall, stone wall, tiled wall, wooden wall",
        "floor": "wooden floor",
        "window": "window blind",
        "medal": "sports medal, military medal",
        "pen": "ballpoint pen, fountain pen",
        "moon": "crescent moon",
        "toy": "teddy bear, yo-yo, puzzle piece",
        "light": "traffic light",
    }.items()
}

# Nouns that some would say of these and some would not: neither asked nor taken for false.
_DOUBTFUL: dict[str, frozenset[str]] = {
    noun: frozenset(_nouns(names))
    for noun, names in {
        "animal": "person, teddy bear, dragon, unicorn, sauropod, t-rex, dinosaur, mouse, carousel horse, pinata, smiley cat, "
        "microbe, spiral shell, coral, oyster, shrimp, fried shrimp, hatching chick, toy",
        "fish": "dolphin, whale, shark, octopus, squid, shrimp, blowfish, seal",
        "insect": "spider, scorpion, worm, snail, microbe, caterpillar",
        "bird": "hatching chick, feather, bat",
        "cat": "tiger, leopard, lion, smiley cat",
        "dog": "wolf, fox, bear, hot dog",
        "mouse": "rat, hamster, computer mouse",
        "bear": "panda, koala, teddy bear",
        "fruit": "tomato, avocado, olive, coconut, chili pepper, aubergine, cucumber, bell pepper, chestnut, jack-o-lantern, "
        "pumpkin, food, corn cob",
        "vegetable": "tomato, avocado, mushroom, corn cob, olive, chili pepper, beans, food, jack-o-lantern, salad, ginger",
        "food": "honey pot, bento box, canned food, cooking pot, coconut, chestnut, fish, chicken, shrimp, lobster, crab, "
        "oyster, frying pan, takeout box, salad bowl, ginger, milk carton, yoghurt, ice cube, juice carton, "
        "cocktail, drink, hatching chick, jack-o-lantern, fondue, salt shaker, mate, egg, ear of rice, herb, "
        "paella, bowl, plate, pot of yoghurt, sour cream, dining table, soup",
        "drink": "baby bottle, champagne bottle, bottle, mug, cup, glass, mate, teacup, teapot, yoghurt, jug, wine glass, can, "
        "tumbler, cocktail glass",
        "vehicle": "rocket, ufo, satellite, wheelchair, skateboard, sled, canoe, roller coaster, shopping trolley, cable car, "
        "ferris wheel, hot air balloon, kick scooter, rowboat, surfer, cyclist",
        "car": "ambulance, van, truck, pickup truck, minibus, rickshaw, tractor, railway car, cable car",
        "truck": "ambulance, van, tractor",
        "boat": "ship, ferry, passenger ship",
        "train": "tram, railway car, subway train, metro, cable car, light rail, roller coaster",
        "person": "smiley, santa claus, mrs claus, skull, snowman, statue, fairy, vampire, elf, genie, zombie, robot, alien, ghost, "
        "ogre, troll, clown, angel, hand, face, mermaid, imp, baby, silhouette, moai, nesting doll, doll, "
        "skin, hair",
        "man": "santa claus, snowman, statue, wizard, vampire, zombie, ninja, superhero",
        "building": "ferris wheel, circus tent, tent, tower, fountain, bridge, wall, building site, roof, platform, houses, "
        "tokyo tower",
        "plant": "leaf, maple leaf, mushroom, bouquet, grass, herb, ear of rice, vegetable, feather, bamboo, christmas tree, coral, "
        "wood, potted plant, broccoli",
        "flower": "clover, bouquet, potted plant, rosette, plant, white flower",
        "tree": "potted plant, cactus, plant, seedling, broccoli, desert island",
        "ball": "orange, globe, balloon, ball of yarn, mirror ball, crystal ball, moon, ringed planet, smiley, curling stone, circle, "
        "baseball glove, tennis racket",
        "tool": "scissors, magnet, broom, knife, kitchen knife, pencil, paintbrush, razor, hook, toolbox, nut and bolt, shovel, "
        "magnifying glass, ruler, brush, tools, spatula",
        "piece of clothing": "shoe, shoes, hat, tie, necktie, belt, glasses, bag, underwear, swimwear, bra, panties, accessories, "
        "helmet, watch, boxing glove, baseball glove, boots, boot, sandals, heels, briefs",
        "hat": "crown, hood, top, hoodie, ribbon",
        "shoe": "roller skate, ice skate, boots, ski boot, shoes, footprints, socks",
        "bag": "money bag, package, basket, luggage, backpack",
        "toy": "balloon, ball, kite, boomerang, nesting doll, die, robot, jigsaw, car, slot machine, pinata, block, carousel horse, "
        "magic wand, frisbee",
        "book": "calendar, notepad, books, paper, newspaper",
        "cup": "glass, wine glass, cocktail, tumbler, bowl, trophy, bubble tea, goblet, jar, beaker, pot, mate",
        "bowl": "rice bowl, noodle soup, salad, plate, cup, mortar, pan, basket, salad bowl, dish",
        "box": "present, ice cube, crate, basket, suitcase, mailbox, postbox, carton, block, bento box, card box, drawer",
        "bottle": "jar, salt shaker, fire extinguisher, can, jug, vase, amphora, sake bottle, test tube, drink, flask",
        "plate": "bowl, pan, tray, dish, saucer, disc",
        "can": "bottle, cup, waste bin, oil drum, box, cylinder",
        "mug": "cup, teacup",
        "glass": "cup, tumbler, cocktail, drink, jar, vase, bottle, mirror, window, magnifying glass",
        "chair": "couch, sofa, bench, stool, toilet",
        "table": "counter, shelf, desk, bench",
        "clock": "watch, hourglass, compass",
        "computer": "cell phone, keyboard, television, tablet",
        "camera": "cell phone, film projector",
        "knife": "axe, saw, sword, cutlery, razor",
        "star": "shooting star, snowflake, sparkles",
        "sun": "smiley",
        "moon": "smiley, globe",
        "tower": "building, castle",
        "light": "candle, light bulb, flashlight, lamp, lantern, fire, torch, siren",
        "sign": "stop sign, banner, traffic light",
        "road": "pavement, railroad",
        "ground": "floor, road, pavement, dirt, sand, grass, gravel",
        "grass": "playing field, plant",
        "rock": "mountain, stone wall, gravel, brick",
        "water": "sea, river, droplet, wave",
        "heart": "love letter, playing card",
        "square": "box, block, brick, book, window",
        "shirt": "t-shirt, blouse, top, sweater, jumper, sweatshirt, hoodie, vest, sports shirt",
        "top": "shirt, t-shirt, blouse, vest, sweater, bodysuit, cardigan, bra, jumper, sweatshirt",
        "jacket": "blazer, coat, cardigan, suit, vest, lab coat, hoodie",
        "coat": "jacket, blazer, cape, lab coat",
        "pants": "jeans, leggings, tights, shorts, stockings",
        "sweater": "jumper, cardigan, hoodie, sweatshirt, top",
        "glasses": "sunglasses, goggles, diving mask, wine glass",
        "sunglasses": "glasses, eyeglasses",
        "pumps": "heels, flats, shoes, wedges",
        "heels": "pumps, sandals, wedges, shoes, boots",
        "shoes": "shoe, socks",
        "bed": "couch, sofa",
        "pizza": "slice of pizza",
        "cake": "birthday cake, slice of cake, cupcake, pie, pancakes",
        "bread": "sandwich, baguette, croissant, bagel, flatbread, toast",
        "phone": "telephone, telephone receiver",
        "house": "hut, building, houses",
        "medal": "coin, rosette",
        "ice cream": "ice cream cone",
        "sandwich": "hamburger, hot dog, bread",
        "horse": "zebra, unicorn, carousel horse",
        "cow": "ox, water buffalo, bison",
        "sheep": "ram, goat, llama",
        "block": "box, brick, ice cube, die",
        "circle": "ball",
    }.items()
}

_STUFF = frozenset(
    _nouns(
        """sky, grass, wall, brick wall, stone wall, tiled wall, wooden wall, floor, wooden floor, ceiling, road, pavement,
        sand, snow, water, sea, river, mountain, dirt, gravel, playing field, railroad, platform, building, house,
        bridge, fence, tree, rock, roof, window, window blind, door, curtain, counter, cabinet, shelf, stairs,
        net, mirror, banner, light, paper, cardboard, rug, towel, table, food, skin, hair, ground"""
    )
)
_MASS = frozenset(
    _nouns(
        """hair, skin, underwear, swimwear, grass, sky, sand, snow, water, food, dirt, gravel, paper, cardboard, broccoli,
        bread, popcorn, bacon, butter, cheese, spaghetti, sushi, garlic, ginger, asparagus, salad, curry, meat on the bone,
        wood, lettuce, candy floss, cutlery, luggage, sea"""
    )
)
_PLURAL = frozenset(
    _nouns(
        """grapes, cherries, jeans, pants, shorts, socks, gloves, glasses, eyeglasses, sunglasses, goggles, scissors, headphones,
        french fries, fries, chips, peanuts, pancakes, beans, blueberries, satsumas, carrots, chopsticks, boots, shoes,
        sandals, heels, flats, sneakers, pumps, wedges, loafers, clogs, ballet shoes, leggings, tights, stockings, panties,
        earrings, accessories, trousers, skis, stairs, briefs, scales, bubbles, lungs, people, shopping bags, books,
        eyes, paw prints, footprints, masks, spectacles, chains, crossed swords, clothes, tools, houses, trainers"""
    )
)
_IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "mouse": "mice",
    "tooth": "teeth",
    "foot": "feet",
    "leaf": "leaves",
    "wolf": "wolves",
    "scarf": "scarves",
    "shelf": "shelves",
    "loaf": "loaves",
    "knife": "knives",
    "die": "dice",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "mango": "mangoes",
    "volcano": "volcanoes",
    "snowman": "snowmen",
    "ox": "oxen",
    "sheep": "sheep",
    "deer": "deer",
    "fish": "fish",
    "blowfish": "blowfish",
    "bison": "bison",
    "squid": "squid",
    "shrimp": "shrimp",
    "aircraft": "aircraft",
    "hippopotamus": "hippos",
}
# A noun with one of these keeps its plural on the first word: "pieces of clothing", "cups with a straw".
_JOINTS = (" of ", " with ", " on the ")

_GRASPABLE_GROUPS = (
    "fruit",
    "vegetable",
    "food",
    "drink",
    "tool",
    "ball",
    "toy",
    "book",
    "cup",
    "glass",
    "bottle",
    "pan",
)
_AFFORDANCES: dict[str, frozenset[str]] = {
    affordance: frozenset(_nouns(names))
    for affordance, names in {
        "graspable": """mug, cup, bowl, plate, can, box, block, spoon, fork, knife, kitchen knife, scissors, cell phone, remote,
            computer mouse, camera, pencil, ballpoint pen, fountain pen, crayon, paintbrush, ruler, key, coin, ring, watch,
            alarm clock, stopwatch, flashlight, candle, light bulb, battery, magnet, die, teapot, jar, vase, basket,
            bucket, toothbrush, sponge, soap, salt shaker, package, present, envelope, letter, ticket, credit card,
            microphone, clipboard, notepad, magnifying glass, screwdriver, umbrella, hat, cap, top hat, glove,
            handbag, purse, wallet, trophy, bell, compass, calculator, headphones, eyeglasses, sunglasses, milk carton,
            juice carton, yoghurt, pot of yoghurt, sour cream, frisbee, kite, tennis racket, baseball bat, chopsticks,
            plunger, broom, safety pin, paperclips, pushpin, mortar, lollipop, feather, shell, spiral shell, rock,
            brick, crown, medal, sports medal, military medal, ball of yarn, spool of thread, fork, pill, syringe""",
        "container": """cup, mug, bowl, pan, pot, cooking pot, frying pan, basket, bucket, box, vase, jar, package, toolbox, teacup,
            wine glass, glass, tumbler, waste bin, shopping trolley, mailbox, backpack, sink, suitcase, handbag""",
        "surface": "plate, table, dining table, tray, book, box, chair, bench, bed, couch, shelf, desk, counter, rug, laptop",
        "pourable": """bottle, cup, mug, teapot, jug, glass, glass of milk, wine glass, beer mug, milk carton, juice carton, can,
            teacup, baby bottle, champagne bottle, cup of coffee, tumbler""",
        "stackable": "block, box, book, plate, bowl, cup, can, brick, package, coin, die, ice cube",
        "readable": "book, newspaper, calendar, letter, envelope, ticket, label, clock, alarm clock, watch, stop sign",
    }.items()
}

NOUNS: tuple[str, ...] = tuple(
    sorted({n for g, members in _GROUPS.items() for n in (g, *members)} | set(SYNONYMS))
)
"""Every noun with an entry here, sorted."""


@cache
def nouns_for(name: str) -> tuple[str, ...]:
    """Other nouns that are true of whatever is called `name`: synonyms first, then more and more general ones."""
    found = dict.fromkeys(SYNONYMS.get(name, ()))
    frontier = [name, *found]
    while frontier:
        noun = frontier.pop(0)
        for group, members in _GROUPS.items():
            if noun in members and group != name and group not in found:
                found[group] = None
                frontier.append(group)
    return tuple(found)


@cache
def might_be(name: str, noun: str) -> bool:
    """Whether somebody may well call by `noun` a thing that is named `name`, without it being certain.

    True for doubtful cases ("fruit" of a tomato) and for a narrower noun than the name ("duck" of a bird):
    the thing may be one, the name does not tell.
    """
    if noun == name:
        return False
    if name in _DOUBTFUL.get(noun, ()):
        return True
    return name in nouns_for(noun)


def is_plural(noun: str) -> bool:
    """Whether `noun` takes "are" as it stands: "jeans"."""
    return noun in _PLURAL


def is_mass(noun: str) -> bool:
    """Whether `noun` takes no "a" and no plural: "grass"."""
    return noun in _MASS


def is_stuff(name: str) -> bool:
    """Whether `name` is scenery rather than a thing: "sky", "wall", "tree"."""
    return name in _STUFF


def article(phrase: str) -> str:
    """ "a" or "an", by sound: "an apple", "a unicorn"."""
    word = phrase.lower()
    if word.startswith(("uni", "use", "eu", "one", "ufo", "uk")):
        return "a"
    if word.startswith(("hour", "honest", "x-ray", "mp3")):
        return "an"
    return "an" if word[:1] in "aeiou" else "a"


@cache
def plural(noun: str) -> str:
    """The plural of an English noun: "wine glass" -> "wine glasses", "slice of cake" -> "slices of cake"."""
    if noun in _MASS or noun in _PLURAL:
        return noun
    for joint in _JOINTS:
        if joint in noun:
            head, _, tail = noun.partition(joint)
            return plural(head) + joint + tail
    head, space, last = noun.rpartition(" ")
    if last in _IRREGULAR:
        return head + space + _IRREGULAR[last]
    if last.endswith("man") and last not in ("human", "talisman"):
        return noun[:-3] + "men"
    if noun.endswith(("s", "sh", "ch", "x", "z")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


@cache
def affordances_of(name: str) -> frozenset[str]:
    """What can be done with a thing of this name, of `ivm.data.scene.AFFORDANCES`; empty if nothing is known."""
    nouns = {name, *SYNONYMS.get(name, ())}
    found = {affordance for affordance, names in _AFFORDANCES.items() if nouns & names}
    groups = {name, *nouns_for(name)}
    if groups & {"fruit", "vegetable", "food"} and not is_stuff(name):
        found.add("edible")
    if groups & set(_GRASPABLE_GROUPS) and not is_stuff(name):
        found.add("graspable")
    return frozenset(found)
