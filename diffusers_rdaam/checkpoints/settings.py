"""Settings and components that do not go with their class, by the class's own signature.

The libraries' annotations are narrower than what their classes take, so nothing is refused for
them: they say why a class that failed has failed.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from numbers import Number
from typing import Any, Literal, Union, get_args, get_origin

_SHOWN = 2
_SCALARS = (str, int, float, bool, type(None))


def setting_faults(kind: type, settings: Mapping[str, Any]) -> list[str]:
    """Settings of another type, size or sign than a class takes, such as ``'"32" for heads'``.

    Args:
        kind: a model or scheduler of diffusers, or a model of transformers.
        settings: by name, as its file of settings has them.
    """
    found = [*_ill_typed(kind, settings), *_not_positive(kind, settings)]
    found += _of_other_lengths(kind, settings)
    return found[:_SHOWN]


def misfits(pipeline: type, kinds: Mapping[str, type], error: str) -> list[str]:
    """Components of another class than a pipeline takes, and those that it does not have.

    Args:
        pipeline: a pipeline class of diffusers.
        kinds: the class of each component by name.
        error: what a library said. Schedulers and tokenizers of other classes than the annotated
            one go with a pipeline too, and are named where it names them.
    """
    try:
        taken = pipeline._get_signature_types()  # type: ignore[attr-defined]  # of diffusers
    except (AttributeError, TypeError, NameError):
        return []
    found = []
    for name, kind in kinds.items():
        is_model = not any(part in name for part in ("scheduler", "tokenizer"))
        if not is_model and kind.__name__ not in error:
            continue
        if name not in taken:
            found.append(f"{pipeline.__name__} takes no {name}")
        elif wanted := _other(kind, taken[name]):
            found.append(f"its {name} is {kind.__name__}, where {pipeline.__name__} takes {wanted}")
    return found


def _other(kind: type, wanted: tuple[Any, ...]) -> str:
    """The classes that are wanted in place of another; empty where that is one of them."""
    classes = [one for one in wanted if isinstance(one, type) and one is not type(None)]
    names = [_name(one) for one in classes]
    if not classes or any(name.startswith("Auto") and "Model" not in name for name in names):
        return ""
    for one in classes:
        if issubclass(one, Enum):
            # The schedulers that go with each other are the members of an enumeration.
            if kind.__name__ in one.__members__:
                return ""
        elif issubclass(kind, one) or issubclass(one, kind):
            return ""
    return " or ".join(names)


def _name(wanted: type) -> str:
    if not issubclass(wanted, Enum):
        return wanted.__name__
    return f"a scheduler such as {next(iter(wanted.__members__), '')}"


def _ill_typed(kind: type, settings: Mapping[str, Any]) -> Iterator[str]:
    for name, parameter in _parameters(kind).items():
        hint, value = parameter.annotation, settings.get(name, ...)
        if value is ... or hint is inspect.Parameter.empty or _takes(hint, value):
            continue
        if type(value) is type(parameter.default) and type(value) in _SCALARS:
            continue
        yield (
            f"{_shown(value)} for {name}, where {kind.__name__} takes "
            f"{inspect.formatannotation(hint)}"
        )


def _not_positive(kind: type, settings: Mapping[str, Any]) -> Iterator[str]:
    for name, default in _defaults(kind).items():
        value = settings.get(name)
        is_number = value not in ([], ()) and _is_number(value)
        if is_number and _is_positive(default) and not _is_positive(value):
            yield f"{_shown(value)} for {name}, where {kind.__name__} takes a positive number"


def _of_other_lengths(kind: type, settings: Mapping[str, Any]) -> Iterator[str]:
    """Lists that have one entry for each block, and not as many as there are blocks."""
    usual: dict[str, tuple[Any, ...]] = {
        name: value for name, value in _defaults(kind).items() if isinstance(value, tuple)
    }
    blocks = "down_block_types"
    wanted = settings.get(blocks, usual.get(blocks))
    if blocks not in usual or not isinstance(wanted, (list, tuple)):
        return
    for name, default in usual.items():
        value = settings.get(name)
        if not isinstance(value, (list, tuple)) or len(default) != len(usual[blocks]):
            continue
        if len(value) != len(wanted):
            yield f"{len(value)} entries in {name}, and {len(wanted)} in {blocks}"


def _parameters(kind: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind.__init__).parameters  # type: ignore[misc]  # of a class


def _defaults(kind: type) -> dict[str, Any]:
    """What a class takes for settings that are not given."""
    if settings := getattr(kind, "config_class", None):
        try:
            return dict(settings().to_dict())
        except (TypeError, ValueError, AttributeError):
            return {}
    return {name: parameter.default for name, parameter in _parameters(kind).items()}


def _takes(hint: Any, value: Any) -> bool:
    """Whether an annotation takes a value of JSON; unknown annotations take everything."""
    if isinstance(hint, str):
        return True
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        return any(_takes(one, value) for one in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin in (list, tuple):
        inner = [one for one in get_args(hint) if one is not ...]
        # A tuple[int] is meant for any number of them.
        is_list = isinstance(value, (list, tuple))
        return is_list and all(any(_takes(one, part) for one in inner or (Any,)) for part in value)
    if origin is float:
        return type(value) in (int, float)
    if origin is None or origin in _SCALARS:
        return type(value) is (type(None) if origin is None else origin)
    return True


def _is_number(value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(one, Number) and not isinstance(one, bool) for one in values)


def _is_positive(value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return bool(values) and _is_number(values) and all(one > 0 for one in values)


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)[:60]
