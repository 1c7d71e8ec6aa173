"""What an error suggests in place of a name that is not known."""

import pytest

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.suggestions import check_keywords, nearest, unknown_name


def test_the_nearest_is_found_whatever_its_case() -> None:
    assert nearest("reigon", ["region", "words"]) == "region"
    assert nearest("LIFT", ["lift", "score"]) == "lift"
    assert nearest("zzz", ["lift", "score"]) is None
    assert nearest(3, []) is None


def test_a_name_that_is_not_known_is_answered_with_the_nearest_and_all() -> None:
    text = unknown_name("lft", ["lift", "score"], "a ranking")
    assert text == "'lft' is not a ranking. Did you mean 'lift'? Rankings: 'lift', 'score'."
    assert len(unknown_name("x" * 10_000, ["lift"], "a ranking")) < 200


def test_keywords_of_no_function_are_refused() -> None:
    check_keywords({"region": 1}, ["region", "words"], "explain_gradient")
    text = (
        r"explain_gradient\(\) has no argument 'reigon'. Did you mean region=\? Arguments: region="
    )
    with pytest.raises(InputError, match=text):
        check_keywords({"reigon": 1}, ["region", "words"], "explain_gradient")
    with pytest.raises(InputError, match=r"^f\(\) has no argument 'a'\. It takes none\.$"):
        check_keywords({"a": 1}, [], "f")
