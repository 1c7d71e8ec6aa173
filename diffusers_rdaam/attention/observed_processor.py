"""Observe the attention call of a processor of diffusers, whatever that computes before and after.

A transformer's processor projects, normalises and rotates queries and keys in its own way, and then
calls one of two functions: ``F.scaled_dot_product_attention`` or ``dispatch_attention_fn``. Its
class is replaced by a subclass that runs the very same code with these calls handed to a method of
the processor. That method calls the function that was written there, so the image stays as it is,
and shows queries and keys to the site's observer. No formula of diffusers is copied.

The state is on the processor, as ``torch.compile`` wants it: in a closure or a global variable it
would cost a graph for each site.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
import threading
from contextlib import ExitStack
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
    dispatch_attention_fn,
)
from torch import Tensor, nn

from diffusers_rdaam.attention import compiled_call
from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.compiled_call import arm_handle, disarm_handle, new_handle
from diffusers_rdaam.attention.hidden_columns import HiddenColumns, check_backend
from diffusers_rdaam.attention.inserted_keys import InsertedKeys
from diffusers_rdaam.attention.observer import Observer, observe
from diffusers_rdaam.attention.recording_processor import RecordingProcessor
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.errors import RecordingError
from diffusers_rdaam.kernels.sdpa import attention_with_lse

_METHOD = "attention_of_call"
# How the two functions are written in the processors of diffusers.
_CALLED = (
    "F.scaled_dot_product_attention",
    "torch.nn.functional.scaled_dot_product_attention",
    "dispatch_attention_fn",
)
_ADDED_ATTRIBUTES = (
    "site",
    "kind",
    "target",
    "thread",
    "used",
    "observed_call",
    "handle",
    "hidden",
    "inserted",
)


class ObservedProcessor(RecordingProcessor):
    """Base class, before the processor's, of the classes that :func:`observed_class` makes.

    Attributes:
        stock: the class of diffusers.
        observed_call: which of the attention calls in its code is observed, from 0.
        handle: the number of the observer, for compiled code.
        hidden: the columns that the call is not to attend to; None but for an ablation.
        inserted: the image that the text of a call attends to in place of the call's own; None but
            in the twin of a processor that concepts are sent through.
    """

    stock: type
    observed_call: int = 0
    handle: Tensor
    hidden: HiddenColumns | None = None
    inserted: InsertedKeys | None = None

    def attention_of_call(self, number: int, function: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The result of an attention function that the processor's code calls.

        Args:
            number: of the call in the code, from 0.
            function, args, kwargs: the function and its arguments.
        """
        if number != self.observed_call:
            return function(*args, **kwargs)
        if self.inserted is not None:
            is_dispatched = function is dispatch_attention_fn
            scale = kwargs.get("scale")
            return self.inserted.attend(*args[:3], scale=scale, heads_first=not is_dispatched)
        hidden = self.hidden
        if hidden is not None and hidden.concerns():
            args, kwargs = (), hidden.arguments(function, args, kwargs)
        if torch.compiler.is_compiling():
            # The same code whether the call is recorded or not.
            call = _dispatched if function is dispatch_attention_fn else _attended
            return call(self.handle, *args, **kwargs)
        observer = self.target
        if (
            observer is None
            or observer.failure is not None
            or self.thread not in (None, threading.get_ident())
        ):
            return function(*args, **kwargs)
        call = _dispatched if function is dispatch_attention_fn else _attended
        return call(observer, *args, **kwargs)

    def arm(self, target: Observer, thread: int | None) -> None:
        """Show the calls of a thread to an observer from now on, compiled ones too."""
        super().arm(target, thread)
        arm_handle(self.handle, target, thread)

    def check_backend(self) -> None:
        """Refuse an attention backend in which no column can be hidden.

        Raises:
            InputError: it takes no mask.
        """
        if not hasattr(self, "_attention_backend"):
            # A processor that calls torch's attention itself.
            return
        check_backend(_name_of(_backend_of({"backend": self._attention_backend})))

    def disarm(self) -> Observer | None:
        """Show calls to nobody; returns who saw them."""
        disarm_handle(self.handle)
        return super().disarm()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"handle": new_handle(), "hidden": None}

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Pickled by the name of the stock class: this one is not an attribute of a module.
        reduced = super().__reduce_ex__(protocol)
        assert isinstance(reduced, tuple)
        return (_new, (self.stock,), *reduced[2:])


# Who sees a call: an observer; or in compiled code a number by which it is found.
Seen = Observer | Tensor


def _attended(
    observer: Seen,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The stock attention of ``(rows, heads, positions, dim)``, shown to the observer."""
    if dropout_p or is_causal:
        _refuse(observer, "with dropout" if dropout_p else "with a causal mask")
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if isinstance(observer, Tensor):
        if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad):
            compiled_call.show(query.detach(), key.detach(), observer, mask=attn_mask, scale=scale)
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, scale=scale, enable_gqa=enable_gqa
            )
        return compiled_call.attend(query, key, value, observer, mask=attn_mask, scale=scale)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    output, lse = attention_with_lse(query, key, value, mask=attn_mask, scale=scale)
    observe(observer, AttentionCall(query, key, value, attn_mask, factor, output, lse))
    return output


def _dispatched(
    observer: Seen, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """The attention of ``(rows, positions, heads, dim)`` by a backend, shown to the observer."""
    options = dict(zip(_DISPATCH_ARGUMENTS, args, strict=False)) | kwargs
    mask, scale = options.get("attn_mask"), options.get("scale")
    why = _unreadable(options, mask)
    if why is not None:
        _refuse(observer, why)
        return dispatch_attention_fn(query, key, value, *args, **kwargs)
    if isinstance(mask, Tensor) and mask.ndim == 2:
        # ``(rows, keys)``; the flex backend reads ``(rows, queries)``.
        is_flex = _backend_of(options) == AttentionBackendName.FLEX
        mask = mask[:, None, :, None] if is_flex else mask[:, None, None, :]
    heads_first = query.permute(0, 2, 1, 3), key.permute(0, 2, 1, 3), value.permute(0, 2, 1, 3)
    if _backend_of(options) == AttentionBackendName.NATIVE and _is_plain(options):
        gqa = bool(options.get("enable_gqa"))
        output = _attended(observer, *heads_first, mask, scale=scale, enable_gqa=gqa)
        return output.permute(0, 2, 1, 3)
    output = dispatch_attention_fn(query, key, value, *args, **kwargs)
    if isinstance(observer, Tensor):
        compiled_call.show(*heads_first[:2], observer, mask=mask, scale=scale)
        return output
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    attended = output.permute(0, 2, 1, 3)
    observe(observer, AttentionCall(*heads_first, mask, factor, attended))
    return output


_DISPATCH_ARGUMENTS = ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


def _backend_of(options: dict[str, Any]) -> Any:
    asked = options.get("backend")
    return _AttentionBackendRegistry._active_backend if asked is None else asked


def _name_of(backend: Any) -> str:
    return str(getattr(backend, "value", backend))


def _is_plain(options: dict[str, Any]) -> bool:
    """Whether the native backend does nothing but call torch's attention."""
    return not options.get("attention_kwargs") and not _AttentionBackendRegistry._checks_enabled


def _unreadable(options: dict[str, Any], mask: Any) -> str | None:
    """Why queries and keys do not tell the probabilities of a call; None where they do."""
    backend = _name_of(_backend_of(options))
    if options.get("parallel_config") is not None:
        return "divided among several devices (context parallelism)"
    if "sage" in backend:
        return f"by the backend {backend!r}, which rounds queries and keys to 8 bits"
    if options.get("dropout_p"):
        return "with dropout"
    if options.get("is_causal"):
        return "with a causal mask"
    if mask is not None and not isinstance(mask, Tensor):
        return f"with a sparse mask ({type(mask).__name__})"
    return None


def _refuse(observer: Seen, why: str) -> None:
    """Note that a call cannot be recorded; the image is made all the same."""
    text = (
        f"The denoiser computes its attention {why}, so that its queries and keys do not tell "
        "its probabilities. Switch that off to record."
    )
    if isinstance(observer, Tensor):
        compiled_call.refuse(text, observer)
    else:
        observer.failure = RecordingError(text)


def is_observable(processor: Any) -> bool:
    """Whether the attention call of a processor can be observed."""
    kind: Any = type(processor)
    return isinstance(processor, ObservedProcessor) or _rewritten(kind) is not None


def observe_processor(processor: Any, site: Site) -> Any:
    """Make a processor's attention call observable for a site; return it, or the copy that is.

    A processor with weights belongs to one site and is changed in place. One without weights may
    be shared by several modules, so the site gets a copy, which knows the original.
    """
    observed = processor if isinstance(processor, nn.Module) else copy.copy(processor)
    kind: Any = type(processor)
    cls: Any = observed_class(kind)
    observed.__class__ = cls
    observed.site, observed.kind = site.name, site.kind
    observed.observed_call, observed.handle = site.attention_call or 0, new_handle()
    if observed is not processor:
        observed.original = processor
    return observed


def unobserved(processor: Any) -> Any:
    """The processor in whose place an observed one stands."""
    if not isinstance(processor, nn.Module):
        if processor.original is not None:
            return processor.original
        # Where diffusers itself makes a new instance of the class, there is no original.
        processor = copy.copy(processor)
    processor.__class__ = type(processor).stock
    for name in _ADDED_ATTRIBUTES:
        processor.__dict__.pop(name, None)
    return processor


def with_inserted_keys(processor: ObservedProcessor, inserted: InsertedKeys) -> ObservedProcessor:
    """A twin of an observed processor with the same weights, whose calls nobody sees.

    The processor itself stays as it is, for another thread may use it at the same time.
    """
    twin: Any = object.__new__(type(processor))
    twin.__dict__.update(processor.__dict__)
    twin.__dict__.update(target=None, hidden=None, inserted=inserted)
    return twin


def undo_observation(processor: nn.Module, undo: ExitStack) -> None:
    """Add the entries to an undo list that give a processor with weights its class back."""
    for name in _ADDED_ATTRIBUTES:
        undo.callback(processor.__dict__.pop, name, None)
    undo.callback(setattr, processor, "__class__", type(processor))


def _new(stock: Any) -> Any:
    cls: Any = observed_class(stock)
    return cls.__new__(cls)


@lru_cache(maxsize=128)
def observed_class(stock: Any) -> type:
    """The subclass of a processor's class whose attention calls can be observed.

    Raises:
        RecordingError: its code calls no attention function that is known.
    """
    rewritten = _rewritten(stock)
    if rewritten is None:
        raise RecordingError(
            f"{stock.__name__} calls neither F.scaled_dot_product_attention nor "
            "dispatch_attention_fn in its own code, so its attention cannot be observed."
        )
    name, function = rewritten
    # The name is kept because diffusers looks at the names of processors' classes.
    body = {"__module__": stock.__module__, "__doc__": stock.__doc__, "stock": stock}
    return type(stock.__name__, (ObservedProcessor, stock), {**body, name: function})


@lru_cache(maxsize=128)
def _rewritten(stock: Any) -> tuple[str, FunctionType] | None:
    """The method of a processor's class that calls attention, with the calls handed to ours."""
    names = ("forward", "__call__") if issubclass(stock, nn.Module) else ("__call__",)
    for name in names:
        method = next((vars(base)[name] for base in stock.__mro__ if name in vars(base)), None)
        method = inspect.unwrap(method) if callable(method) else None
        # A class made elsewhere may have taken the place of the one of diffusers, or its code
        # may be at hand only compiled.
        if not isinstance(method, FunctionType) or method.__code__.co_freevars:
            continue
        code = _code_with_calls_handed_over(method)
        if code is not None:
            function = FunctionType(code, method.__globals__, name, method.__defaults__)
            function.__kwdefaults__ = method.__kwdefaults__
            function.__annotations__ = dict(method.__annotations__)
            function.__doc__, function.__module__ = method.__doc__, method.__module__
            function.__qualname__ = method.__qualname__
            return name, function
    return None


def _code_with_calls_handed_over(method: FunctionType) -> CodeType | None:
    """The method's code with its attention calls handed to ``self``; None where it has none."""
    try:
        lines, first = inspect.getsourcelines(method)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return None
    rewriter = _CallRewriter(self_name=method.__code__.co_varnames[0])
    tree = ast.fix_missing_locations(rewriter.visit(tree))
    if not rewriter.count:
        return None
    ast.increment_lineno(tree, first - 1)
    module = compile(tree, method.__code__.co_filename, "exec", dont_inherit=True)
    return next(
        constant
        for constant in module.co_consts
        if isinstance(constant, CodeType) and constant.co_name == method.__name__
    )


class _CallRewriter(ast.NodeTransformer):
    """Turns ``attention(…)`` into ``self.attention_of_call(number, attention, …)``."""

    def __init__(self, self_name: str) -> None:
        self.self_name = self_name
        self.count = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        # Defaults, annotations and decorators are the method's own, which are kept.
        node.decorator_list, node.returns = [], None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if ast.unparse(node.func) not in _CALLED:
            return node
        method = ast.Attribute(ast.Name(self.self_name, ast.Load()), _METHOD, ast.Load())
        number = ast.Constant(self.count)
        self.count += 1
        call = ast.Call(method, [number, node.func, *node.args], node.keywords)
        return ast.copy_location(call, node)
