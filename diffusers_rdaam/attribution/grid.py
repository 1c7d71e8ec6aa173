"""Grid: the maps of all sites of one size and stream."""

from __future__ import annotations

from dataclasses import dataclass, field

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.shapes import GridMaps


@dataclass(frozen=True, eq=False)
class Grid:
    """The maps of all sites of one grid, in one stream.

    Args:
        maps: ``(tokens, height, width)`` float32, mean probability over heads, sites and calls.
        additions: how many (site, denoiser call) pairs that is the mean of.
        sites: names of the attention modules.
        weight: of each of those pairs; a grid's share of the whole is ``weight * additions`` over
            the sum of all grids.
        stream: ``"double"`` or ``"single"``, the blocks of a transformer whose maps these are;
            empty where a denoiser has one kind of block.
        squares: the mean of the probabilities' squares over the same heads, sites and calls, in the
            shape of the maps; None where the run did not keep it.
    """

    maps: GridMaps = field(repr=False)
    additions: int
    sites: tuple[str, ...] = ()
    weight: float = 1.0
    stream: str = ""
    squares: GridMaps | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.maps.ndim != 3 or self.additions < 1:
            raise InputError(
                "A grid has maps (tokens, height, width) and at least one addition; got shape "
                f"{tuple(self.maps.shape)} and {self.additions}."
            )
        if not is_weight(self.weight):
            raise InputError(f"A grid's weight lies between 1e-9 and 1e9; got {self.weight}.")
        if self.squares is not None and self.squares.shape != self.maps.shape:
            raise InputError(
                f"The mean squares of a grid have the shape of its maps, {tuple(self.maps.shape)}; "
                f"got {tuple(self.squares.shape)}."
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the grid, in cells."""
        return (self.maps.shape[1], self.maps.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes of the maps and their mean squares."""
        planes = [self.maps] if self.squares is None else [self.maps, self.squares]
        return sum(plane.numel() * plane.element_size() for plane in planes)


def is_weight(value: int | float) -> bool:
    """True for a weight that a grid may have; beyond it sums are no longer finite or exact."""
    return 1e-9 <= value <= 1e9
