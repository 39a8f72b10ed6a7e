"""Check digits: numbers that issuers publish as examples fit, and any one wrong digit is noticed."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.redaction import checks

EXAMPLES: list[tuple[Callable[[bytes], bool], str]] = [
    (checks.luhn, "4111111111111111"),
    (checks.luhn, "378282246310005"),
    (checks.luhn, "046454286"),
    (checks.mod97, "GB82WEST12345698765432"),
    (checks.mod97, "DE89370400440532013000"),
    (checks.mod97, "MT84MALT011000012345MTLCAST001S"),
    (checks.mod11_10, "86095742719"),
    (checks.german_tax_number, "86095742719"),
    (checks.verhoeff, "2363"),
    (checks.verhoeff, "234123412346"),
    (checks.french_nir, "255081416802538"),
    (checks.spanish_letter, "12345678Z"),
    (checks.spanish_letter, "X1234567L"),
    (checks.italian_tax_code, "RSSMRA85T10A562S"),
    (checks.dutch_bsn, "111222333"),
    (checks.brazilian_cpf, "52998224725"),
    (checks.chinese_resident, "11010519491231002X"),
    (checks.swedish_number, "8112189876"),
    (checks.polish_pesel, "44051401359"),
    (checks.ean13, "7569217076985"),
]


@pytest.mark.parametrize(("check", "number"), EXAMPLES)
def test_published_examples_fit(check: Callable[[bytes], bool], number: str) -> None:
    assert check(number.encode())


@given(st.sampled_from(EXAMPLES), st.data())
def test_one_wrong_digit_is_noticed(example: tuple[Callable[[bytes], bool], str], data: st.DataObject) -> None:
    check, number = example
    place = data.draw(st.sampled_from([place for place, sign in enumerate(number) if sign.isdigit()]))
    other = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != number[place]]))
    changed = f"{number[:place]}{other}{number[place + 1 :]}"
    # By eleven, two digits of a CPF's ten and eleven share one check digit: that of remainder 10 is written 0.
    assert check is checks.brazilian_cpf or not check(changed.encode())


def test_eleven_equal_digits_are_nobody() -> None:
    assert not checks.brazilian_cpf(b"11111111111")
