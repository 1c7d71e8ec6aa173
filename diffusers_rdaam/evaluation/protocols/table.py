"""The table of protocols: a new one is a file here and a line in the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.evaluation.protocols.conceptattention import ConceptAttention
from diffusers_rdaam.evaluation.protocols.daam import Daam
from diffusers_rdaam.evaluation.protocols.deletion import Deletion
from diffusers_rdaam.evaluation.protocols.goca import Goca
from diffusers_rdaam.evaluation.protocols.ovam import Ovam
from diffusers_rdaam.evaluation.protocols.pointing import Pointing
from diffusers_rdaam.evaluation.protocols.protocol import Protocol
from diffusers_rdaam.evaluation.protocols.rdaam import Rdaam
from diffusers_rdaam.evaluation.protocols.seg4diff import Seg4Diff
from diffusers_rdaam.suggestions import check_keywords, unknown_name

_TABLE: tuple[type[Protocol], ...] = (
    *(Daam, Ovam, ConceptAttention, Seg4Diff, Goca, Rdaam, Pointing, Deletion),
)


class Protocols(Mapping[str, type[Protocol]]):
    """All protocols by name; printed, what each is and which flaws its published form has."""

    def __init__(self, table: tuple[type[Protocol], ...]) -> None:
        self._by_name = {one.name: one for one in table}

    def __getitem__(self, name: str) -> type[Protocol]:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return "\n".join(_entry(one) for one in self.values())


def _entry(one: type[Protocol]) -> str:
    flaws = "\n".join(f"    - {flaw}" for flaw in one.flaws)
    return f"{one.name}: {one.summary}\n  {one.reference}\n  as published:\n{flaws}"


def protocols() -> Protocols:
    """Every protocol that ``evaluate(…, protocol=name)`` runs, by name.

    Example:
        >>> "a word without a prediction" in protocols()["daam"].flaws[0]
        True
    """
    return Protocols(_TABLE)


def protocol_of(protocol: str | Protocol, *, strict: bool = True, **options: Any) -> Protocol:
    """A protocol by name, with its settings.

    Args:
        protocol: its name, or one that is made already.
        strict: the honest form, or with False the published one.
        options: of the protocol, such as ``threshold=`` or ``variant=``.

    Raises:
        InputError: there is no such protocol, or it does not have one of the options.
    """
    if isinstance(protocol, Protocol):
        if options:
            raise InputError(
                f"The protocol {protocol.label} is an object already. Give its options when "
                f"you make it: {', '.join(options)}."
            )
        return protocol
    known = protocols()
    if not isinstance(protocol, str) or protocol not in known:
        raise InputError(unknown_name(protocol, known, "a protocol"))
    names = [one.name for one in fields(known[protocol]) if one.name != "strict"]
    check_keywords(options, names, f"protocol_of({protocol!r}, …)")
    return known[protocol](strict=strict, **options)
