"""The shapes of all tensors, each named once; checked at run time in the tests only.

``pixels`` are positions of a site's grid, row by row; ``rows`` are entries of a denoiser batch;
``tokens`` are columns of the attention, specials and padding included.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Float16, Float32, Int64, Shaped
from torch import Tensor

Size = tuple[int, int]  # height and width, of a grid in cells or of an image in pixels

Query = Float[Tensor, "rows heads pixels dim"]
# As many heads as the queries, or fewer that divide their number: each is then of several queries.
Key = Float[Tensor, "rows key_heads tokens dim"]
Value = Float[Tensor, "rows key_heads tokens value_dim"]
Attended = Float[Tensor, "rows heads pixels value_dim"]
# Added to the logits; or true where a position may attend to a token.
AttentionMask = Shaped[Tensor, "#rows #heads #pixels #tokens"]
LogSums = Float[Tensor, "rows heads pixels"]
Probabilities = Float[Tensor, "rows heads pixels tokens"]
# Means over the heads; or the maps of each head, with one axis more.
HeadMeans = Float[Tensor, "rows *per_head tokens pixels"]
Plane = Float16[Tensor, "rows *per_head tokens pixels"]
# Of the recorded rows alone.
RecordedPlane = Float16[Tensor, "images *per_head tokens pixels"]
# The mean over the heads of squared probabilities, of the recorded rows.
SquaresPlane = Float32[Tensor, "images tokens pixels"]

GridMaps = Float32[Tensor, "tokens grid_height grid_width"]
SizedMaps = Float32[Tensor, "maps _ _"]  # on one of several grids, each of its own size
DetailMaps = Float[Tensor, "steps heads tokens grid_height grid_width"]
Column = Float[Tensor, "height width"]
ClassScores = Float[Tensor, "classes height width"]
VideoColumn = Float32[Tensor, "frames height width"]
BinaryMask = Bool[Tensor, "height width"]
Interpolation = Float[Tensor, "pixels cells"]
PixelShares = Float[Tensor, " cells"]  # of one axis
GridWeights = Float[Tensor, "grid_height grid_width"]
# Of one of several grids, each of its own size; or of a part of an image.
CellWeights = Float[Tensor, "_ _"]
TokenScores = Float[Tensor, " tokens"]
StepMaps = Float[Tensor, "steps _ _"]  # of one of several grids, each of its own size
StepWeights = Float[Tensor, "steps grids"]
SelfSums = Float[Tensor, "positions positions"]  # keys before queries
Weights = Float32[Tensor, "maps positions"]
Labels = Int64[Tensor, "height width"]
CellMap = Float[Tensor, "..."]  # one value a cell, as one axis or as height and width
