"""DAAM's label sets: COCO's 80 objects, the 27 groups of COCO-Stuff, and an ontology of the 80."""

from __future__ import annotations

from diffusers_rdaam.segmentation.classes import COCO80

COCO80_LABELS: list[str] = list(COCO80)
COCO80_INDICES: dict[str, int] = {name: number for number, name in enumerate(COCO80)}
# "food" and "furniture" are there twice, as things and as stuff; an index finds the first.
COCOSTUFF27_LABELS: list[str] = [
    *("electronic", "appliance", "food", "furniture", "indoor", "kitchen", "accessory", "animal"),
    *("outdoor", "person", "sports", "vehicle"),
    *("ceiling", "floor", "food", "furniture", "rawmaterial", "textile", "wall", "window"),
    *("building", "ground", "plant", "sky", "solid", "structural", "water"),
]
UNUSED_LABELS: list[str] = [f"__unused_{number}__" for number in range(1, 200)]

# The groups of runs of the 80: a run ends before the label that is named next.
_GROUPS = (
    ("person", ("person",)),
    ("vehicle", COCO80[1:9]),
    ("accessory", (*COCO80[9:13], *COCO80[24:29])),
    ("furniture", ("bench", "chair", "couch", "bed", "dining table", "toilet")),
    ("animal", COCO80[14:24]),
    ("sports", COCO80[29:39]),
    ("food", COCO80[39:56]),
    ("plant", ("potted plant",)),
    ("electronic", COCO80[62:68]),
    ("appliance", COCO80[68:73]),
    ("indoor", COCO80[73:]),
)
COCO80_TO_27: dict[str, str] = {
    name: group for group, names in _GROUPS for name in names if name != group
}
COCO80_ONTOLOGY: dict[str, list[str]] = {
    "two-wheeled vehicle": ["bicycle", "motorcycle"],
    "vehicle": ["two-wheeled vehicle", "four-wheeled vehicle"],
    "four-wheeled vehicle": ["bus", "truck", "car"],
    "four-legged animals": ["livestock", "pets", "wild animals"],
    "livestock": ["cow", "horse", "sheep"],
    "pets": ["cat", "dog"],
    "wild animals": ["elephant", "bear", "zebra", "giraffe"],
    "bags": ["backpack", "handbag", "suitcase"],
    "sports boards": ["snowboard", "surfboard", "skateboard"],
    "utensils": ["fork", "knife", "spoon"],
    "receptacles": ["bowl", "cup"],
    "fruits": ["banana", "apple", "orange"],
    "foods": ["fruits", "meals", "desserts"],
    "meals": ["sandwich", "hot dog", "pizza"],
    "desserts": ["cake", "donut"],
    "furniture": ["chair", "couch", "bench"],
    "electronics": ["monitors", "appliances"],
    "monitors": ["tv", "cell phone", "laptop"],
    "appliances": ["oven", "toaster", "refrigerator"],
}


def build_word_list_coco80() -> dict[str, list[str]]:
    """The groups of the ontology that hold words, and not other groups."""
    return {
        group: list(names)
        for group, names in COCO80_ONTOLOGY.items()
        if not any(name in COCO80_ONTOLOGY for name in names)
    }
