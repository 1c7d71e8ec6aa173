"""Checks of arguments: a choice, a count, a number, a share."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch

from diffusers_rdaam.argument_checks import (
    check_choice,
    check_count,
    check_share,
    check_threshold,
    real_number,
)
from diffusers_rdaam.errors import InputError, WordError

Colour = Literal["red", "green"]


def test_a_choice():
    check_choice("red", Colour, "a colour")
    for value in ("blue", 3, None, ["red"], np.zeros(2)):
        with pytest.raises(InputError, match=r"is not a colour\..* Colours: 'red', 'green'\.$"):
            check_choice(value, Colour, "a colour")
    with pytest.raises(WordError, match=r"Did you mean 'green'\? Names: "):
        check_choice("gren", Colour, "a colour", plural="Names", error=WordError)


@pytest.mark.parametrize("value", [3, np.int64(3), torch.tensor(3)])
def test_a_count(value):
    assert check_count(value, "every=") == 3 and type(check_count(value, "every=")) is int
    assert check_count(0, "every=", least=0) == 0


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "3", None, torch.tensor([1, 2])])
def test_no_count(value):
    with pytest.raises(InputError) as caught:
        check_count(value, "every=")
    assert str(caught.value) == f"every= is a whole number from 1; got {value!r}."


@pytest.mark.parametrize("value", [math.nan, math.inf, True, np.True_, "0.5", None, 10**400])
def test_no_number(value):
    assert real_number(value) is None
    with pytest.raises(InputError, match=r"^A share lies in \[0, 1\]; got "):
        check_share(value, "A share")


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5)])
def test_a_number(value):
    assert real_number(value) == check_share(value, "A share") == 0.5
    assert check_threshold(value, "the map") == 0.5
    assert check_share(1, "A share") == 1.0
    with pytest.raises(InputError, match=r"^A threshold lies in \[0, 1\), on the map; got 1\.$"):
        check_threshold(1, "the map")
