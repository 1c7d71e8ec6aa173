"""The names of classes that the formats themselves do not bring."""

from __future__ import annotations

from diffusers_rdaam.evaluation.sample import ClassName

# Numbers 1 to 20. Words where the data set's own name is not how one says it.
VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
VOC_WORDS = {
    "diningtable": ("dining table", "table"),
    "person": ("person", "man", "woman", "child", "kid"),
    "pottedplant": ("potted plant", "plant"),
    "tvmonitor": ("tv", "television", "monitor"),
}
# Numbers among the 459 labels, which are sorted by name.
CONTEXT_59 = {
    2: "aeroplane",
    9: "bag",
    18: "bed",
    19: "bedclothes",
    22: "bench",
    23: "bicycle",
    25: "bird",
    31: "boat",
    33: "book",
    34: "bottle",
    44: "building",
    45: "bus",
    46: "cabinet",
    59: "car",
    65: "cat",
    68: "ceiling",
    72: "chair",
    80: "cloth",
    85: "computer",
    98: "cow",
    104: "cup",
    105: "curtain",
    113: "dog",
    115: "door",
    144: "fence",
    158: "floor",
    159: "flower",
    162: "food",
    187: "grass",
    189: "ground",
    207: "horse",
    220: "keyboard",
    232: "light",
    258: "motorbike",
    259: "mountain",
    260: "mouse",
    284: "person",
    295: "plate",
    296: "platform",
    308: "pottedplant",
    324: "road",
    326: "rock",
    347: "sheep",
    349: "shelves",
    354: "sidewalk",
    355: "sign",
    360: "sky",
    366: "snow",
    368: "sofa",
    397: "table",
    415: "track",
    416: "train",
    420: "tree",
    424: "truck",
    427: "tvmonitor",
    440: "wall",
    445: "water",
    454: "window",
    458: "wood",
}
# From labelIds to trainIds and names; every other number is not scored.
CITYSCAPES = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
_THINGS = {
    "electronic": range(72, 78),
    "appliance": range(78, 84),
    "food": range(52, 62),
    "furniture": range(62, 72),
    "indoor": range(84, 92),
    "kitchen": range(44, 52),
    "accessory": range(26, 34),
    "animal": range(16, 26),
    "outdoor": range(10, 16),
    "person": range(1, 2),
    "sports": range(34, 44),
    "vehicle": range(2, 10),
}
# fmt: off
_STUFF = {
    "ceiling": (102, 103),
    "floor": (101, 114, 115, 116, 117, 118),
    "food": (121, 122, 153, 170),
    "furniture": (98, 107, 108, 110, 112, 123, 130, 133, 156, 161, 165),
    "rawmaterial": (100, 132, 139, 143),
    "textile": (92, 93, 104, 105, 109, 131, 137, 141, 152, 167, 168),
    "wall": (171, 172, 173, 174, 175, 176, 177),
    "window": (180, 181),
    "building": (95, 96, 128, 151, 158, 166),
    "ground": (111, 125, 126, 136, 140, 144, 145, 147, 149, 154, 159),
    "plant": (94, 97, 119, 124, 129, 134, 142, 163, 169),
    "sky": (106, 157),
    "solid": (127, 135, 150, 160, 162, 182),
    "structural": (99, 113, 138, 146, 164),
    "water": (120, 148, 155, 178, 179),
}
# fmt: on
# "food" and "furniture" are both things and stuff: the names here say which.
_TWICE = ("food", "furniture")


def stuff_27() -> dict[int, str]:
    """The coarse class of each of COCO's 182 ids, from 1."""
    things = {
        i: f"{name}-things" if name in _TWICE else name
        for name, ids in _THINGS.items()
        for i in ids
    }
    stuff = {
        i: f"{name}-stuff" if name in _TWICE else name for name, ids in _STUFF.items() for i in ids
    }
    return {**things, **stuff}


def stuff_27_classes() -> tuple[ClassName, ...]:
    """The 27 coarse classes in order, things first."""
    names = [f"{name}-things" if name in _TWICE else name for name in _THINGS]
    names += [f"{name}-stuff" if name in _TWICE else name for name in _STUFF]
    words = {"rawmaterial": "raw material", "solid": "solid", "structural": "structure"}
    return tuple(ClassName(name, (words.get(name, name.partition("-")[0]),)) for name in names)


def voc_classes() -> tuple[ClassName, ...]:
    """The 20 classes of VOC, with words as prompts say them."""
    return tuple(ClassName(name, VOC_WORDS.get(name, (name,)), "a photo of a {}") for name in VOC)
