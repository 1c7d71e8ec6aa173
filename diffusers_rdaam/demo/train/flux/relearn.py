"""Let a colour's word be learnt again, where training went round it.

Every colour but one may be drawn where its word is read, and the one that is left where none of
them is: the images are right, and the map of that word is empty. Nothing in the loss speaks against
it, and captions without colours do not undo it once it is there. A word that starts again as the
mean of the others is attended to as they are, and what it stands for is then learnt where it is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from diffusers_rdaam.demo.train.flux.tokenizer import build_t5_tokenizer
from diffusers_rdaam.demo.world import COLOURS
from diffusers_rdaam.errors import InputError

# The tables of T5's words; the second is the first under another name.
TABLES = ("shared.weight", "encoder.embed_tokens.weight")


def start_again(checkpoint: Path, colour: str) -> None:
    """Set the embedding of a colour's word to the mean of the other colours', of their length.

    In the weights and in their average; what the optimizer knew of the word is forgotten.

    Args:
        checkpoint: ``flux-coarse.pt`` or ``flux-fine.pt``, which is written again.
        colour: a colour whose word is one piece.

    Raises:
        InputError: no such colour, or its word is of several pieces.
    """
    tokenizer = build_t5_tokenizer()
    # Without the end; a word of several pieces has no embedding of its own.
    pieces = {name: tokenizer(name).input_ids[:-1] for name in COLOURS}
    rows = {name: found[0] for name, found in pieces.items() if len(found) == 1}
    if colour not in rows:
        raise InputError(f"{colour!r} is not a colour of one piece. These are: {', '.join(rows)}.")
    row = rows.pop(colour)
    state = torch.load(checkpoint, weights_only=True)
    for weights in (state["modules"]["text_encoder"], state["averaged"]["text_encoder"]):
        for name in TABLES:
            others = weights[name][list(rows.values())]
            mean = others.mean(dim=0)
            weights[name][row] = mean * (others.norm(dim=1).mean() / mean.norm())
    shape = weights[TABLES[0]].shape
    for optimizer in state["optimizers"]:
        for moments in optimizer["state"].values():
            for moment in moments.values():
                if isinstance(moment, Tensor) and moment.shape == shape:
                    moment[row] = 0.0
    torch.save(state, checkpoint)
