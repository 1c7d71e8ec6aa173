"""Stock methods of a pipeline that also record, note a prompt, or keep recording going.

Each keeps the stock signature and docstring, and is missing where the stock class has none. What
is recorded is the stock class's own ``__call__``: a class derived from it may do anything around
it. So a layer is put between that class and its descendants, whose ``super().__call__`` then finds
the layer; nothing is changed in the stock class.
"""

from __future__ import annotations

import functools
import inspect
from functools import lru_cache
from typing import Any

_ENCODES = ("encode_prompt", "_encode_prompt")
_SWITCHES = (
    "enable_attention_slicing",
    "enable_xformers_memory_efficient_attention",
    "disable_xformers_memory_efficient_attention",
    "fuse_qkv_projections",
    "unfuse_qkv_projections",
    "load_ip_adapter",
    "unload_ip_adapter",
)


@lru_cache(maxsize=128)
def watched(stock: Any) -> type:
    """A subclass of a pipeline class whose calls and encodings are seen."""
    body: dict[str, Any] = {
        "__module__": stock.__module__,
        "__doc__": stock.__doc__,
        "__qualname__": stock.__qualname__,
        "_rdaam_watches": stock,
        "__call__": _recorded(stock.__call__, is_stock=True),
    }
    for name in _ENCODES:
        if _definitions(stock, name):
            body[name] = _noted(getattr(stock, name), is_stock=True)
    return type(stock.__name__, (stock,), body)


def wrap_methods(cls: Any, stock: Any) -> None:
    """Wrap the methods of a recording class, its own and those that it inherits.

    Args:
        cls: with the mixin among its bases.
        stock: the class of diffusers that it descends from; None if there is none.
    """
    if stock is not None and any(_hides(cls, stock, name) for name in ("__call__", *_ENCODES)):
        _put_layer(cls, stock)
    for name in ("__call__", *_ENCODES, *_SWITCHES):
        found = _definitions(cls, name)
        if not found or getattr(found[0][1], "_rdaam_wrapped", False):
            continue
        owner, method = found[0]
        is_stock = stock is not None and issubclass(stock, owner)
        if name == "__call__":
            setattr(cls, name, _recorded(method, is_stock=is_stock))
        elif name in _ENCODES:
            setattr(cls, name, _noted(method, is_stock=is_stock))
        elif not any(getattr(method, "_rdaam_wrapped", False) for _, method in found):
            setattr(cls, name, _switch(method))


def _hides(cls: Any, stock: type, name: str) -> bool:
    """Whether a class has a method of its own before the stock one, and nothing of ours between.

    What calls ``super()`` there would reach the stock method unseen.
    """
    found = _definitions(cls, name)
    # Not by hasattr: every class can be called.
    if not found or not _definitions(stock, name) or issubclass(stock, found[0][0]):
        return False
    return not any(getattr(method, "_rdaam_is_stock", False) for _, method in found)


def _definitions(cls: Any, name: str) -> list[tuple[Any, Any]]:
    return [(base, base.__dict__[name]) for base in cls.__mro__ if name in base.__dict__]


def _put_layer(cls: Any, stock: Any) -> None:
    layer = watched(stock)
    if stock in cls.__bases__:
        cls.__bases__ = tuple(layer if base is stock else base for base in cls.__bases__)
    else:
        cls.__bases__ = (*cls.__bases__, layer)


def _recorded(call: Any, *, is_stock: bool) -> Any:
    @functools.wraps(call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(self, "_rdaam_call"):
            # The layer without the mixin: nobody records.
            return call(self, *args, **kwargs)
        return self._rdaam_call(call, is_stock, args, kwargs)

    return _marked(__call__, is_stock=is_stock)


def _noted(encode: Any, *, is_stock: bool) -> Any:
    """A method that encodes the prompt; a recorded run notes the text and the embedding."""
    signature = inspect.signature(encode)

    @functools.wraps(encode)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        session = getattr(self, "_rdaam_session", None)
        if session is None:
            return encode(self, *args, **kwargs)
        return session.encode(encode, signature, (self, *args), kwargs, is_stock=is_stock)

    return _marked(method, is_stock=is_stock)


def _switch(stock_method: Any) -> Any:
    """A method that sets processors of its own on the denoiser; recording goes on with them."""

    @functools.wraps(stock_method)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = stock_method(self, *args, **kwargs)
        self._rdaam_reinstall()
        return result

    return _marked(method)


def _marked(method: Any, *, is_stock: bool = False) -> Any:
    method._rdaam_wrapped = True
    method._rdaam_is_stock = is_stock
    return method
