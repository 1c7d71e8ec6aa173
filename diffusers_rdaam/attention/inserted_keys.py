"""InsertedKeys: an attention call of some rows of text with another call's image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.shapes import Key, Value


@dataclass
class InsertedKeys:
    """Keys and values of an image that take the place of those of a call's own image.

    A processor that has one computes ``softmax(q [k; k_x] * scale) [v; v_x]`` for the positions of
    its call's text, where ``k_x`` and ``v_x`` are these; its call's image is not attended to, and
    its output is zero. A mask of the call is left out: it is that of the call's own columns.

    Args:
        key, value: ``(rows, heads, columns, dim)``, as the attention is computed with them.
        text: the positions of the text in the call.
        attended: the output of the call for its text, ``(rows, heads, positions, dim)``; None
            before the call.
    """

    key: Key
    value: Value
    text: slice
    attended: Tensor | None = None

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, scale: Any, heads_first: bool
    ) -> Tensor:
        """The output of the call, in the layout of its tensors.

        Args:
            query, key, value: of the call.
            scale: the factor of the logits; None for one over the root of the width.
            heads_first: whether they are ``(rows, heads, positions, dim)``; else positions come
                before heads.
        """
        if not heads_first:
            query, key, value = (one.transpose(1, 2) for one in (query, key, value))
        keys = torch.cat([key[:, :, self.text], self.key.to(key)], dim=2)
        values = torch.cat([value[:, :, self.text], self.value.to(value)], dim=2)
        self.attended = F.scaled_dot_product_attention(
            query[:, :, self.text], keys, values, scale=scale
        )
        output = value.new_zeros(*query.shape[:3], value.shape[-1])
        output[:, :, self.text] = self.attended
        return output if heads_first else output.transpose(1, 2)
