"""The attention of a recorded site: the output that the image is made of, and who sees the call."""

from __future__ import annotations

from torch import Tensor

from diffusers_rdaam.attention.attention_call import AttentionCall, completed, stock_attention
from diffusers_rdaam.attention.map_target import Target
from diffusers_rdaam.attention.observer import Observer, ObserverGroup, observe


def attend(observer: Observer, call: AttentionCall) -> Tensor:
    """Compute the attention of a site, and show the call with its output to the site's observers.

    Args:
        observer: the site's. The target of its maps comes first and decides how output and maps are
            computed; other observers see the call afterwards.
        call: without its output.

    Returns:
        The output ``(rows, heads, positions, value_dim)``: the stock attention's, bit for bit,
        unless the fused kernel computes it.
    """
    if isinstance(observer, Target):
        return observer.attend(call)[0]
    observers = observer.observers if isinstance(observer, ObserverGroup) else (observer,)
    first = observers[0]
    if isinstance(first, Target):
        attended, lse = first.attend(call)
        observers = observers[1:]
    else:
        attended, lse = stock_attention(call), None
    call = completed(call, attended, lse)
    for other in observers:
        observe(other, call)
    return attended
