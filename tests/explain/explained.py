"""The pipelines that are explained, at toy size."""

from __future__ import annotations

from toys import ALL_CASES, NINE

EXPLAINED = {
    name: ALL_CASES[name]
    for xl in ("", "XL")
    for name in (
        f"StableDiffusion{xl}",
        f"StableDiffusion{xl}Img2Img",
        f"StableDiffusion{xl}Inpaint",
    )
}
EXPLAINED["nine channels"] = NINE["StableDiffusionInpaint"]
