"""The toy cases of the pipelines that are explained."""

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
