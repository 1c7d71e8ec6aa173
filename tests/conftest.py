"""Shapes are checked at run time in tests; tiny models run on one thread, far faster than on many."""

from __future__ import annotations

from jaxtyping import install_import_hook

CHECKED = ("kernels", "geometry", "attribution", "recording")

with install_import_hook([f"diffusers_rdaam.{name}" for name in CHECKED], "beartype.beartype"):
    import diffusers_rdaam.attribution.attribution
    import diffusers_rdaam.attribution.files
    import diffusers_rdaam.recording.recorder
    import diffusers_rdaam.recording.tokenize  # noqa: F401  # imported for the hook's sake

import torch

torch.set_num_threads(1)
