"""Arguments and results of diffusers-interpret's explainers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from PIL import Image

from diffusers_rdaam.compat.daam.plotting import pyplot
from diffusers_rdaam.compat.diffusers_interpret.images import GeneratedImages
from diffusers_rdaam.compat.diffusers_interpret.saliency import PixelAttributions, SaliencyMap
from diffusers_rdaam.errors import InputError

PLOTS = ("bar", "barh", "pie")


class AttributionAlgorithm(str, Enum):
    """The ways in which gradients become scores."""

    GRAD_X_INPUT = "grad_x_input"
    MAX_GRAD = "max_grad"
    MEAN_GRAD = "mean_grad"
    MIN_GRAD = "min_grad"


@dataclass
class AttributionMethods:
    """A way for tokens and one for the pixels of an input image."""

    tokens_attribution_method: str | AttributionAlgorithm = AttributionAlgorithm.GRAD_X_INPUT
    pixels_attribution_method: str | AttributionAlgorithm = AttributionAlgorithm.MAX_GRAD


class TokenAttributions(list[tuple[str, float]]):
    """``(token, score)`` in the order of the prompt."""

    @property
    def normalized(self) -> list[tuple[str, float]]:
        """The scores in percent of their sum, to three decimals."""
        total = sum(score for _, score in self)
        return [(token, round(100 * score / total, 3) if total else 0.0) for token, score in self]

    def plot(
        self,
        plot_type: str = "barh",
        normalize: bool = False,
        *,
        xlabel: str | None = None,
        ylabel: str | None = None,
        title: str | None = None,
        **options: Any,
    ) -> None:
        """Draw and show the scores with pyplot.

        Args:
            plot_type: ``"bar"``, ``"barh"`` or ``"pie"``.
            normalize: in percent.
            xlabel, ylabel, title: texts.
            options: of pyplot's ``bar``, ``barh`` or ``pie``.

        Raises:
            InputError: another type.
            PlotExtraError: matplotlib is not installed.
        """
        if plot_type not in PLOTS:
            raise InputError(
                f"{plot_type!r} is not a plot of tokens. There are {', '.join(PLOTS)}."
            )
        pairs: Iterable[tuple[str, float]] = self.normalized if normalize else self
        names, scores = zip(*pairs, strict=True)
        plt = pyplot()
        _, axes = plt.subplots()
        kind = "Normalized " if normalize else ""
        value, places = f"{kind.lower()}attribution value", range(len(names))
        if plot_type == "pie":
            defaults = {"startangle": 90, "counterclock": False, "autopct": "%1.1f%%"}
            axes.pie(scores, labels=names, **({"pctdistance": 0.8, **defaults} | options))
            labels = (xlabel or "", ylabel or "")
        elif plot_type == "bar":
            # By place, not by name: a token may stand several times.
            axes.bar_label(axes.bar(places, scores, **options))
            axes.set_xticks(places, names)
            labels = (xlabel or "tokens", ylabel or value)
        else:
            axes.bar_label(axes.barh(places, scores, **options))
            axes.set_yticks(places, names)
            axes.invert_yaxis()
            labels = (xlabel or value, ylabel or "tokens")
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.set_title(title or f"{kind}Token Attributions")
        plt.show()


@dataclass
class PipelineExplainerOutput:
    """The result of an explainer.

    Args:
        image: that was made.
        nsfw_content_detected: whether the safety checker found something, where it was asked.
        all_images_during_generation: after every step.
        token_attributions: the scores; None where they were turned off.
    """

    image: Any
    nsfw_content_detected: bool | None = None
    all_images_during_generation: GeneratedImages | None = None
    token_attributions: TokenAttributions | None = None

    @property
    def normalized_token_attributions(self) -> list[tuple[str, float]] | None:
        """``token_attributions.normalized``."""
        return None if self.token_attributions is None else self.token_attributions.normalized

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)


@dataclass
class PipelineExplainerForBoundingBoxOutput(PipelineExplainerOutput):
    """The result of an explainer for a part of the image.

    Args:
        explanation_2d_bounding_box: upper left and lower right corner, ``(x, y)`` each; it is drawn
            on ``image``.
    """

    explanation_2d_bounding_box: tuple[tuple[int, int], tuple[int, int]] | None = None


@dataclass
class PipelineImg2ImgExplainerOutput(PipelineExplainerOutput):
    """The result of an explainer with an input image.

    Args:
        pixel_attributions: the score of each of its pixels; None where not all steps count.
    """

    pixel_attributions: PixelAttributions | None = None

    @property
    def normalized_pixel_attributions(self) -> Any:
        """``pixel_attributions.normalized``."""
        return None if self.pixel_attributions is None else self.pixel_attributions.normalized

    @property
    def input_saliency_map(self) -> SaliencyMap | None:
        """``pixel_attributions.saliency_map``."""
        return None if self.pixel_attributions is None else self.pixel_attributions.saliency_map


@dataclass
class PipelineImg2ImgExplainerForBoundingBoxOutputOutput(PipelineImg2ImgExplainerOutput):
    """The result for a part of the image; ``explanation_2d_bounding_box`` as above."""

    explanation_2d_bounding_box: tuple[tuple[int, int], tuple[int, int]] | None = None


def boxed(image: Image.Image, box: tuple[tuple[int, int], tuple[int, int]]) -> Image.Image:
    """A copy with the box drawn in red."""
    from PIL import ImageDraw

    picture = image.convert("RGB").copy()
    (left, top), (right, bottom) = box
    # The box is half-open: its last column and row belong to it.
    edges = [left, top, max(right - 1, left), max(bottom - 1, top)]
    ImageDraw.Draw(picture).rectangle(edges, outline="red")
    return picture
