"""The optimizer's state divided among copies of the weights."""

from collections.abc import Callable
from typing import Any


def test_each_copy_remembers_about_half_of_what_one_does(together: Callable[..., Any]) -> None:
    found = together(2, "tests.distributed.states")
    first, second = found["whole"]
    assert first == second
    assert sum(found["divided"]) == first
    assert max(found["divided"]) < 0.6 * first
