"""What the numbers have to reach, by model: the way, the number, the bar."""

from __future__ import annotations

DEFAULT_IOU, TUNED_IOU = "{} IoU, default threshold", "{} IoU, tuned threshold"
PRECISION, POINTING, BOX = "{} AP", "{} pointing", "{} box IoU"
FIRST, BOTH, OTHER = "first word, {}", "top two, {}", "its phrase over the other's, {}"
BACKGROUND_SIGN = "no word made the region: background"
OBJECT_SIGN = "no word made the region: objects"

# Which numbers they are of: those of images of the model, at the card's steps and guidance.
SECTIONS = ("What the images show", "Maps", "Words of regions", "Sanity")
_SIZES = ("tight box", "half box", "double box")
Bars = dict[tuple[str, str], float]


def _by_kind(way: str, what: str, phrase: float, colour: float, shape: float) -> Bars:
    values = {"phrase": phrase, "colour": colour, "shape": shape}
    return {(way, what.format(kind)): value for kind, value in values.items()}


AT_LEAST: dict[str, Bars] = {
    "stable-diffusion": {
        **_by_kind("mean, refined", DEFAULT_IOU, 0.79, 0.77, 0.72),
        **_by_kind("rms, refined", DEFAULT_IOU, 0.81, 0.83, 0.73),
        **_by_kind("mean", BOX, 0.70, 0.62, 0.65),
        **_by_kind("mean, refined", BOX, 0.79, 0.78, 0.74),
        ("mean, refined", PRECISION.format("phrase")): 0.93,
        **{("lift", FIRST.format(size)): 0.98 for size in _SIZES},
        **{("lift", BOTH.format(size)): 0.95 for size in _SIZES},
        ("lift", BACKGROUND_SIGN): 0.95,
    },
    "flux": {
        ("mean", TUNED_IOU.format("phrase")): 0.75,
        ("lift", FIRST.format("tight box")): 0.95,
    },
}
AT_MOST: dict[str, Bars] = {
    "stable-diffusion": {
        ("lift", OBJECT_SIGN): 0.02,
        ("random queries and keys", PRECISION.format("phrase")): 0.35,
        ("random text encoder", PRECISION.format("phrase")): 0.65,
        ("another prompt", PRECISION.format("phrase")): 0.65,
    },
    "flux": {},
}
