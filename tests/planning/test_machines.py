"""The list of machines."""

import pytest

from groundup.core.errors import UsageError
from groundup.planning.machines import MACHINES, machine


@pytest.mark.parametrize("name", MACHINES)
def test_every_machine_is_possible_and_says_where_its_numbers_are_from(name: str) -> None:
    known = machine(name)
    assert 1e13 < known.peak < 1e16
    assert 1e10 < known.memory < 1e12
    assert 1e11 < known.bandwidth < 1e13
    assert 0 < known.utilisation < 1
    assert known.source
    assert known.utilisation_source


def test_an_unknown_machine_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean h100"):
        machine("h10")
    with pytest.raises(UsageError, match="there are h100, h200"):
        machine("abacus")
