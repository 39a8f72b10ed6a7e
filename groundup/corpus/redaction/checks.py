"""The check digits of cards, accounts and identity numbers: what tells them from numbers that merely look alike.

Every function takes the number without separators, as ASCII bytes, and says whether its check digits fit. Lengths and
shapes are the caller's business.
"""

from datetime import date

#: Values of the letters in Italy's tax code, in odd places (counted from 1).
_ODD_VALUES = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_DNI_LETTERS = b"TRWAGMYFPDXBNJZSQVHLCKE"
_CHINESE_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_PESEL_WEIGHTS = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)


def values(digits: bytes) -> list[int]:
    return [digit - 48 for digit in digits]


def luhn(digits: bytes) -> bool:
    """ISO/IEC 7812: every second digit from the right doubled, the digits of all that add up to a multiple of ten."""
    reverse = values(digits)[::-1]
    return (sum(reverse[::2]) + sum(2 * digit - 9 * (digit > 4) for digit in reverse[1::2])) % 10 == 0


def mod97(account: bytes) -> bool:
    """ISO 7064 MOD 97-10, as in an IBAN: the first four characters moved to the end, A = 10 … Z = 35, remainder 1."""
    return int("".join(str(int(chr(character), 36)) for character in account[4:] + account[:4])) % 97 == 1


def mod11_10(digits: bytes) -> bool:
    """ISO 7064 MOD 11,10, as in Germany's tax number."""
    product = 10
    for digit in values(digits[:-1]):
        product = 2 * ((product + digit) % 10 or 10) % 11
    return (product + digits[-1] - 48) % 10 == 1


def _dihedral(left: int, right: int) -> int:
    """The product in the symmetry group of the pentagon: 0 to 4 turns, 5 to 9 reflections."""
    turn = left + right if left < 5 else left - right
    return turn % 5 + 5 * ((left < 5) != (right < 5))


def _permuted() -> tuple[tuple[int, ...], ...]:
    rows = [tuple(range(10)), (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)]
    while len(rows) < 8:
        rows.append(tuple(rows[1][digit] for digit in rows[-1]))
    return tuple(rows)


_PERMUTED = _permuted()


def verhoeff(digits: bytes) -> bool:
    """J. Verhoeff, "Error detecting decimal codes" (1969), as in India's Aadhaar."""
    check = 0
    for place, digit in enumerate(reversed(values(digits))):
        check = _dihedral(check, _PERMUTED[place % 8][digit])
    return check == 0


def german_tax_number(digits: bytes) -> bool:
    """Of the first ten digits just one occurs twice or three times, but never three in a row; MOD 11,10."""
    first = digits[:10]
    repeated = [digit for digit in set(first) if first.count(digit) > 1]
    if digits[0] == ord("0") or len(repeated) != 1 or first.count(repeated[0]) > 3:
        return False
    return bytes(repeated * 3) not in first and mod11_10(digits)


def french_nir(number: bytes) -> bool:
    """13 places and a key of two digits, together a multiple of 97; Corsica's 2A and 2B count as 19 and 18."""
    plain = number[:13].replace(b"2A", b"19", 1) if number[5:7] == b"2A" else number[:13].replace(b"2B", b"18", 1)
    return plain.isdigit() and 97 - int(plain) % 97 == int(number[13:])


def spanish_letter(number: bytes) -> bool:
    """DNI and NIE: the letter is the number's remainder by 23; X, Y, Z in front count as 0, 1, 2."""
    digits = number[:-1].translate(bytes.maketrans(b"XYZ", b"012"))
    return _DNI_LETTERS[int(digits) % 23] == number[-1]


def italian_tax_code(code: bytes) -> bool:
    """The sixteenth letter is the sum of the others' values by 26, with other values in odd places."""
    ranks = [int(chr(character), 36) - (10 if character > 57 else 0) for character in code[:15]]
    return (sum(_ODD_VALUES[rank] for rank in ranks[::2]) + sum(ranks[1::2])) % 26 == code[15] - 65


def dutch_bsn(digits: bytes) -> bool:
    """The eleven test: weights 9 … 2 and -1."""
    return (
        sum(weight * digit for weight, digit in zip((9, 8, 7, 6, 5, 4, 3, 2, -1), values(digits), strict=True)) % 11
        == 0
    )


def brazilian_cpf(digits: bytes) -> bool:
    """Two check digits by 11; eleven equal digits fit too, but are nobody's."""
    numbers = values(digits)
    for length in (9, 10):
        total = sum(weight * digit for weight, digit in zip(range(length + 1, 1, -1), numbers, strict=False))
        if total * 10 % 11 % 10 != numbers[length]:
            return False
    return len(set(numbers)) > 1


def chinese_resident(number: bytes) -> bool:
    """A date of birth in places 7 to 14, and MOD 11-2, whose ten is written X."""
    total = sum(weight * digit for weight, digit in zip(_CHINESE_WEIGHTS, values(number[:17]), strict=True))
    return (
        is_date(int(number[6:10]), int(number[10:12]), int(number[12:14])) and b"10X98765432"[total % 11] == number[17]
    )


def swedish_number(digits: bytes) -> bool:
    """A date of birth (YYMMDD) and four digits, together a Luhn number."""
    return is_date(2000 + int(digits[-10:-8]), int(digits[-8:-6]), int(digits[-6:-4])) and luhn(digits[-10:])


def polish_pesel(digits: bytes) -> bool:
    """A date of birth whose month tells the century, and weights 1, 3, 7, 9."""
    century, month = divmod(int(digits[2:4]), 20)
    if century > 1 or not is_date((1900, 2000)[century] + int(digits[:2]), month, int(digits[4:6])):
        return False
    total = sum(weight * digit for weight, digit in zip(_PESEL_WEIGHTS, values(digits[:10]), strict=True))
    return (total + digits[10] - 48) % 10 == 0


def ean13(digits: bytes) -> bool:
    """The thirteen digits of an article number, as in Switzerland's AHV number."""
    numbers = values(digits)
    return (sum(numbers[::2]) + 3 * sum(numbers[1::2])) % 10 == 0


def is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
