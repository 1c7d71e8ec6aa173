"""The systems that are measured side by side: one adapter each, over what they share.

An adapter drives the system's own code: its hooks, on a diffusers pipeline whose UNet has a
released model's size, and then its own functions for the answers. None of that code is here. A
system is imported by name where its package is installed; else from the folder that the environment
variable ``RDAAM_BENCHMARK_SYSTEMS`` names, which has a subfolder for each, with a checkout or an
unpacked release in it::

    systems/
      daam/                      castorini/daam, with daam/ in it
      rdaam/                     Muhammad-Ahmad-Waseem/rdaam, itself the package
      ovam/                      vpulab/ovam, with ovam/ in it
      attention_map_diffusers/   the release, with attention_map_diffusers/ in it

What a system imports and does not need here (spaCy, plots) is stood in for while it is imported,
where it is missing. A system that cannot run has a row that says why.
"""

from __future__ import annotations

from benchmarks.systems.attention_map_diffusers import AttentionMapDiffusers
from benchmarks.systems.daam import Daam
from benchmarks.systems.ours import Ours
from benchmarks.systems.ovam import Ovam
from benchmarks.systems.rdaam import Rdaam
from benchmarks.systems.stock import Stock
from benchmarks.systems.system import System


def all_systems() -> list[System]:
    """Stock first, then ours, then the predecessors."""
    return [
        Stock(),
        Ours("portable", backend="portable"),
        Ours("portable, with self-attention", backend="portable", self_attention=True),
        Ours('portable, keep="queries"', backend="portable", keep="queries"),
        Ours('portable, keep="steps"', backend="portable", keep="steps"),
        Ours("maps_only", backend="maps_only"),
        Ours("fused", backend="fused"),
        Daam(),
        Rdaam(),
        Ovam(),
        AttentionMapDiffusers("as it comes: the last step's queries and keys"),
        AttentionMapDiffusers("maps of all steps", mode="exact", timesteps="all"),
    ]
