"""A labelled set, drawn from a seed: sentences in which one value of a known kind stands, and sentences that hold
numbers and names which only look like one.

Every value is invented. Check digits are found by trying all of them.
"""

import base64
import hashlib
import random
import string
from collections.abc import Callable, Iterator
from typing import NamedTuple

from groundup.corpus.redaction import checks, find

Maker = Callable[[random.Random], str]


class Sample(NamedTuple):
    """A sentence; the value in it and its rule, or what the value merely looks like."""

    text: str
    value: str
    kind: str
    """Empty for a sentence that holds nothing to redact."""
    rule: str


def digits(rng: random.Random, count: int, first: str = string.digits) -> str:
    return rng.choice(first) + "".join(rng.choices(string.digits, k=count - 1))


def pattern(rng: random.Random, shape: str) -> str:
    """``shape`` with a digit for each #, and a capital letter for each @."""
    draws = {"#": string.digits, "@": string.ascii_uppercase}
    return "".join(rng.choice(draws[sign]) if sign in draws else sign for sign in shape)


def token(rng: random.Random, count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(rng.choices(alphabet, k=count))


def checked(make: Maker, check: Callable[[bytes], bool], separators: str = " .-+") -> Maker:
    """Draws until the check digits fit."""

    def draw(rng: random.Random) -> str:
        while True:
            value = make(rng)
            if check(value.translate(str.maketrans("", "", separators)).encode()):
                return value

    return draw


def grouped(rng: random.Random, plain: str, sizes: tuple[int, ...], separator: str = " ") -> str:
    groups, rest = [], plain
    for size in sizes:
        groups.append(rest[:size])
        rest = rest[size:]
    return separator.join(groups)


def _email(rng: random.Random) -> str:
    local = rng.choice(["{a}", "{a}.{b}", "{a}+{b}", "{a}_{b}7", "{a}.o'{b}"]).format(a=_word(rng), b=_word(rng))
    return f"{local}@{_word(rng)}.{rng.choice(['com', 'org', 'co.uk', 'de', 'io', 'museum', 'edu.au', 'xn--p1ai'])}"


def _word(rng: random.Random) -> str:
    return "".join(rng.choice("bdfgklmnprst") + rng.choice("aeiou") for _ in range(rng.randint(2, 4)))


def _ipv4(rng: random.Random) -> str:
    first = rng.choice([23, 45, 62, 81, 93, 142, 151, 185, 203])
    return f"{first}.{rng.randint(10, 99)}.{rng.randint(114, 250)}.{rng.randint(1, 254)}"


def _ipv6(rng: random.Random) -> str:
    groups = [f"{rng.choice([0x2001, 0x2A00, 0x2606, 0x2A02]):x}", f"{rng.randint(0x470, 0xD00):x}"]
    groups += [f"{rng.randint(1, 0xFFFF):x}" for _ in range(6)]
    return ":".join(groups) if rng.random() < 0.5 else ":".join(groups[:4]) + "::" + groups[-1]


def _card(rng: random.Random) -> str:
    prefix, length = rng.choice(
        [("4", 16), ("51", 16), ("2221", 16), ("34", 15), ("6011", 16), ("36", 14), ("3528", 16)]
    )
    plain = prefix + digits(rng, length - len(prefix))
    sizes = {16: (4, 4, 4, 4), 15: (4, 6, 5), 14: (4, 6, 4)}[length]
    return rng.choice([plain, grouped(rng, plain, sizes), grouped(rng, plain, sizes, "-")])


def _iban(rng: random.Random) -> str:
    country, body = rng.choice([("DE", "#" * 18), ("GB", "@@@@" + "#" * 14), ("FR", "#" * 23), ("NL", "@@@@##########"),
                                ("ES", "#" * 20), ("NO", "#" * 11), ("MT", "@@@@" + "#" * 23)])  # fmt: skip
    body = pattern(rng, body)
    plain = next(value for key in range(2, 99) if checks.mod97((value := f"{country}{key:02}{body}").encode()))
    return plain if rng.random() < 0.5 else " ".join(plain[start : start + 4] for start in range(0, len(plain), 4))


def _german(rng: random.Random) -> str:
    """Ten digits of which one occurs twice, and the check digit."""
    chosen = rng.sample(string.digits, 9)
    chosen.append(chosen[0])
    rng.shuffle(chosen)
    plain = "".join(chosen) + rng.choice(string.digits)
    return rng.choice([plain, grouped(rng, plain, (2, 3, 3, 3))])


def _nir(rng: random.Random) -> str:
    department = rng.choice(["75", "13", "2A", "2B", "59", "97"])
    body = f"{rng.choice('12')}{rng.randint(0, 99):02}{rng.randint(1, 12):02}{department}{digits(rng, 6)}"
    value = int(body.replace("2A", "19").replace("2B", "18")) if department[0] == "2" else int(body)
    plain = f"{body}{97 - value % 97:02}"
    return rng.choice([plain, grouped(rng, plain, (1, 2, 2, 2, 3, 3, 2))])


def _born(rng: random.Random, form: str) -> str:
    year, month, day = rng.randint(1930, 1999), rng.randint(1, 12), rng.randint(1, 28)
    return form.format(year=year, short=year % 100, month=month, day=day)


def _italian(rng: random.Random) -> str:
    return pattern(rng, f"@@@@@@##{rng.choice('ABCDEHLMPRST')}0{rng.randint(1, 9)}@###@")


def _jwt(rng: random.Random) -> str:
    def part(value: str) -> str:
        return base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")

    return ".".join([part('{"alg":"HS256","typ":"JWT"}'), part(f'{{"sub":"{_word(rng)}"}}'), token(rng, 43)])


def _pem(rng: random.Random) -> str:
    label = rng.choice(["RSA PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY"])
    body = "\n".join(token(rng, 64, string.ascii_letters + string.digits + "+/") for _ in range(4))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----"


def _service_key(rng: random.Random) -> str:
    return rng.choice(
        [
            "AKIA" + token(rng, 16, string.ascii_uppercase + "234567"),
            "ghp_" + token(rng, 36),
            "github_pat_" + token(rng, 22) + "_" + token(rng, 59),
            "glpat-" + token(rng, 20),
            f"xoxb-{digits(rng, 12)}-{digits(rng, 12)}-" + token(rng, 24),
            "AIza" + token(rng, 35),
            "sk_live_" + token(rng, 24),
            "sk-" + token(rng, 20) + "T3BlbkFJ" + token(rng, 20) + "7",
            "hf_" + token(rng, 34),
            "npm_" + token(rng, 36),
            "SG." + token(rng, 22) + "." + token(rng, 43),
            f"{digits(rng, 9, '123456789')}:AA" + token(rng, 33),
        ]
    )


def _decimal(rng: random.Random) -> str:
    return f"{rng.uniform(2, 80) * rng.choice([1, -1]):.6f}, {rng.uniform(2, 170) * rng.choice([1, -1]):.6f}"


def _degrees(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return f"{rng.uniform(1, 89):.5f}° {rng.choice('NS')}, {rng.uniform(1, 179):.5f}° {rng.choice('EW')}"
    minutes, seconds = f"{rng.randint(0, 59):02}", f"{rng.uniform(0, 59):04.1f}"
    parts = [f"{rng.randint(1, top)}°{minutes}{minute}{seconds}{second}{rng.choice(side)}"
             for top, side, minute, second in ((89, "NS", "′", "″"), (179, "EW", "'", '"'))]  # fmt: skip
    return " ".join(parts)


def _phone(*shapes: str) -> Maker:
    return lambda rng: pattern(rng, rng.choice(shapes))


#: rule → (kind, sentences, how to draw a value).
POSITIVES: dict[str, tuple[str, tuple[str, ...], Maker]] = {
    "email": ("email", ("Write to {}.", "<{}>", "mailto:{}?subject=hello", "From: {}", "Fragen an {}, bitte."), _email),
    "ipv4": ("ip", ("Request from {} refused.", "http://{}/index.html", "[{}]", "client={}:8080"), _ipv4),
    "ipv6": ("ip", ("Connection from {} closed.", "http://[{}]/", "addr: {},"), _ipv6),
    "phone-international": (
        "phone",
        ("You reach us at {}.", "{}", "tel:{}", "Fax {} (office)"),
        _phone(
            "+44 20 7### ####",
            "+1 415-555-####",
            "+1 (212) 555-####",
            "+49 30 #######",
            "+33 1 ## ## ## ##",
            "+39 06 ########",
            "+34 9## ### ###",
            "+91 98### #####",
            "+81-3-####-####",
            "+55 11 9####-####",
            "+14155550###",
            "+86 138 #### ####",
            "+351 21# ### ###",
            "+61 2 9### ####",
            "0044 20 7### ####",
            "+49 (0)89 1234##",
        ),
    ),
    "phone-national": (
        "phone",
        ("Our office: {}.", "Ask for Ann, {}, after six.", "{}", "Reservations under {} only"),
        _phone(
            "(212) 555-####",
            "415-555-####",
            "415.555.####",
            "1-800-555-####",
            "020 7### ####",
            "0161 496 ####",
            "07700 900###",
            "01 4# ## ## ##",
            "06-12345###",
            "03-####-####",
            "(020) 7### ####",
            "(11) 9####-####",
            "0171/1234###",
            "01632 960###",
        ),
    ),
    "phone-announced": (
        "phone",
        ("Tel: {}", "Please phone {} today.", "Teléfono: {}", "mobile no. {}", "Call me at {}."),
        _phone("555-01##", "9########", "612 345 ###", "98### #####", "212 555 01##", "30 1234####"),
    ),
    "credit-card": ("credit_card", ("Card {} was charged.", "Visa: {} exp 12/27", "{},"), checked(_card, checks.luhn)),
    "iban": ("iban", ("Pay to {} by Friday.", "IBAN: {}", "({})"), _iban),
    "us-ssn": (
        "national_id",
        ("SSN: {}", "Her number is {}.", "social security number {}"),
        lambda rng: f"{rng.randint(1, 665):03}-{rng.randint(1, 99):02}-{rng.randint(1, 9999):04}",
    ),
    "uk-nino": (
        "national_id",
        ("National Insurance: {}", "quote {} on the form"),
        lambda rng: grouped(
            rng,
            rng.choice(["AB", "CE", "JK", "SY"]) + digits(rng, 6) + rng.choice("ABCD"),
            (2, 2, 2, 2, 1),
            rng.choice(["", " "]),
        ),
    ),
    "de-steuer-id": ("national_id", ("IdNr. {}", "Steuer: {}."), checked(_german, checks.german_tax_number)),
    "fr-nir": ("national_id", ("Numéro {}", "sécu : {}."), _nir),
    "es-dni": (
        "national_id",
        ("DNI {}", "con documento {}, mayor de edad"),
        checked(
            lambda rng: digits(rng, 8) + rng.choice(["", "-"]) + rng.choice("TRWAGMYFPDXBNJZSQVHLCKE"),
            checks.spanish_letter,
        ),
    ),
    "es-nie": (
        "national_id",
        ("NIE {}", "con documento {}, residente"),
        checked(
            lambda rng: pattern(rng, rng.choice("XYZ") + "#######") + rng.choice("TRWAGMYFPDXBNJZSQVHLCKE"),
            checks.spanish_letter,
        ),
    ),
    "it-codice-fiscale": ("national_id", ("C.F. {}", "codice {}."), checked(_italian, checks.italian_tax_code)),
    "nl-bsn": (
        "national_id",
        ("BSN {}", "Burgerservicenummer: {}."),
        checked(lambda rng: digits(rng, 9), checks.dutch_bsn),
    ),
    "br-cpf": (
        "national_id",
        ("CPF {}", "inscrito sob {}."),
        checked(lambda rng: pattern(rng, "###.###.###-##"), checks.brazilian_cpf),
    ),
    "in-aadhaar": (
        "national_id",
        ("Aadhaar {}", "number {} issued"),
        checked(lambda rng: pattern(rng, f"{rng.choice('23456789')}### #### ####"), checks.verhoeff),
    ),
    "cn-resident": (
        "national_id",
        ("身份证{}。", "id {}"),
        checked(
            lambda rng: (
                pattern(rng, "110105")
                + _born(rng, "{year}{month:02}{day:02}")
                + digits(rng, 3)
                + rng.choice("0123456789X")
            ),
            checks.chinese_resident,
        ),
    ),
    "se-personnummer": (
        "national_id",
        ("Personnummer {}", "född {}."),
        checked(lambda rng: _born(rng, "{short:02}{month:02}{day:02}-") + digits(rng, 4), checks.swedish_number),
    ),
    "pl-pesel": (
        "national_id",
        ("PESEL {}", "numer {}."),
        checked(lambda rng: _born(rng, "{short:02}{month:02}{day:02}") + digits(rng, 5), checks.polish_pesel),
    ),
    "ch-ahv": (
        "national_id",
        ("AHV {}", "Nummer {}."),
        checked(lambda rng: pattern(rng, "756.####.####.##"), checks.ean13),
    ),
    "ca-sin": (
        "national_id",
        ("SIN {}", "number {}."),
        checked(lambda rng: pattern(rng, f"{rng.choice('12345679')}##-###-###"), checks.luhn),
    ),
    "service-key": ("secret", ("key {}", 'client("{}")', "token={}", "curl -H {} host"), _service_key),
    "json-web-token": ("secret", ("Authorization: Bearer {}", 'jwt = "{}"'), _jwt),
    "private-key": ("secret", ("{}", "key:\n{}\nend"), _pem),
    "password-in-address": (
        "secret",
        ("https://{}@example.com/", "postgres://{}@db.example.com:5432"),
        lambda rng: f"{_word(rng)}:{token(rng, 10)}",
    ),
    "assigned-secret": (
        "secret",
        ('api_key = "{}"', "SECRET_KEY: {}", '"accessToken": "{}"', "password={}"),
        lambda rng: token(rng, 32),
    ),
    "decimal-degrees": ("coordinates", ("We met at {}.", "geo:{}", "({})", "coordinates {}"), _decimal),
    "degrees": ("coordinates", ("The wreck lies at {}.", "{} (WGS 84)"), _degrees),
}


def _isbn(rng: random.Random) -> str:
    return pattern(
        rng, rng.choice(["978-0-###-#####-#", "978-3-16-######-#", "0-###-#####-#", "0-19-######-#", "978##########"])
    )


#: What merely looks like personal data.
NEGATIVES: dict[str, tuple[tuple[str, ...], Maker]] = {
    "ISBN": (("ISBN {}", "see {}, p. 12"), _isbn),
    "order number": (
        ("order {}", "invoice no. {} of May", "#{}"),
        lambda rng: rng.choice(
            [digits(rng, 10), digits(rng, 8), "ORD-" + digits(rng, 9), digits(rng, 5) + "-" + digits(rng, 4)]
        ),
    ),
    "date": (
        ("on {}", "from {} on", "({})"),
        lambda rng: _born(
            rng,
            rng.choice(
                [
                    "{year}-{month:02}-{day:02} 14:03:59",
                    "{day:02}.{month:02}.{year}",
                    "{month:02}/{day:02}/{year}",
                    "{day:02}-{month:02}-{year}",
                    "{year}{month:02}{day:02}",
                ]
            ),
        ),
    ),
    "version": (
        ("version {}", "Firefox/{}", "v{} is out", "libfoo-{}.tar.gz"),
        lambda rng: ".".join(str(rng.randint(0, 130)) for _ in range(rng.choice([3, 4]))),
    ),
    "section": (("{} Results", "see section {}"), lambda rng: ".".join(str(rng.randint(1, 9)) for _ in range(4))),
    "colour": (("color: #{};", "#{}"), lambda rng: token(rng, 6, string.hexdigits.lower()[:16])),
    "hash": (
        ("commit {}", "sha256 {}", "etag {}"),
        lambda rng: hashlib.sha256(token(rng, 9).encode()).hexdigest()[: rng.choice([7, 32, 40, 64])],
    ),
    "UUID": (
        ("id {}", "/item/{}"),
        lambda rng: grouped(rng, token(rng, 32, "0123456789abcdef"), (8, 4, 4, 4, 12), "-"),
    ),
    "price": (("for ${}", "{} EUR", "€ {} net"), lambda rng: f"{rng.uniform(1, 9e6):,.2f}"),
    "population": (
        ("{} people", "a total of {}"),
        lambda rng: f"{rng.randint(10**6, 10**9):,}".replace(",", rng.choice([",", " ", "."])),
    ),
    "time and ratio": (
        ("at {}", "took {}"),
        lambda rng: f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}.{digits(rng, 3)}",
    ),
    "hardware address": (("MAC {}",), lambda rng: ":".join(token(rng, 2, "0123456789abcdef") for _ in range(6))),
    "years": (
        ("in {}", "({})"),
        lambda rng: f"{rng.randint(1800, 1999)}-{rng.randint(1900, 2020)} {rng.randint(1900, 2020)}",
    ),
    "statistics": (("mean {}", "[{}]"), lambda rng: ", ".join(f"{rng.random():.5f}" for _ in range(rng.randint(2, 5)))),
    "temperature": (("at {}",), lambda rng: f"{rng.uniform(-20, 40):.1f}° C, {rng.randint(1, 90)}° E"),
    "handle": (("@{} wrote", "npm install left-pad@{}"), lambda rng: rng.choice([_word(rng), "1.3.0", "latest"])),
    "image": (("src={}",), lambda rng: f"{_word(rng)}@2x.png"),
    "C++": (("{}",), lambda rng: f"std::{_word(rng)}::{_word(rng)}(a::b, fe::c)"),
    "slug": (("token: {}", "/2024/05/{}"), lambda rng: "-".join(_word(rng) for _ in range(5))),
    "local address": (
        ("ping {}",),
        lambda rng: rng.choice(
            [
                f"10.{rng.randint(0, 255)}.0.17",
                f"192.168.1.{rng.randint(1, 254)}",
                "127.0.0.1",
                "203.0.113.77",
                "::1",
                "fe80::1",
                "2001:db8::7",
            ]
        ),
    ),
    "tracking number": (
        ("parcel {}",),
        lambda rng: rng.choice(
            ["1Z" + token(rng, 16, string.ascii_uppercase + string.digits), pattern(rng, "@@#########@@")]
        ),
    ),
    "lottery": (
        ("numbers {}",),
        lambda rng: " ".join(f"{number:02}" for number in sorted(rng.sample(range(1, 50), 6))),
    ),
    "license plate": (("car {}",), lambda rng: pattern(rng, rng.choice(["@@-@@ ####", "@@@ ###", "@ ### @@@"]))),
    "array": (
        ("x = np.array([{}])", "minmax=({})", "[ 1.84772065, {}]"),
        lambda rng: f"{rng.uniform(1, 89):.8f}, {rng.uniform(-179, 179):.8f}",
    ),
    "polynomial": (
        ("x**2 + {}*x", "y {} z"),
        lambda rng: rng.choice(["+ " + digits(rng, 11), f"+ {rng.uniform(1, 9):.14f}", f"+ 1{digits(rng, 7)}.286"]),
    ),
    "identifier": (
        ("self.tokens = {}(config)", "token: {}", "api_key = {}"),
        lambda rng: f"{_word(rng).title()}V{rng.randint(2, 9)}{_word(rng).title()}Of{_word(rng).title()}",
    ),
    "address in a manual": (
        ("open {}",),
        lambda rng: (
            f"{rng.choice(['https', 's3'])}://"
            f"{rng.choice(['user:password', '{user}:{password}', '$USER:$PASSWORD', 'me:***'])}@{_word(rng)}.example/"
        ),
    ),
    "clause": (("clause {}", "at DFARS {}."), lambda rng: pattern(rng, "252.2##-70##")),
    "long version": (
        ("X-Mailer: Evolution {} (Preview)", "(NAVGW {})"),
        lambda rng: f"{rng.randint(1, 9)}.{rng.randint(0, 9)}.{rng.randint(0, 9)}.{rng.randint(10, 99)}",
    ),
    "identifier of a message": (("ESMTP id {};",), lambda rng: digits(rng, 11)),
    "equation": (("x = {}",), lambda rng: f"{digits(rng, 5)} + {digits(rng, 6)} - {digits(rng, 4)} / {digits(rng, 3)}"),
}


def samples(seed: int = 7, each: int = 60) -> Iterator[Sample]:
    """``each`` sentences of every rule and of every look-alike; the same for the same seed."""
    for rule, (kind, sentences, make) in POSITIVES.items():
        rng = random.Random(f"{seed}/{rule}")
        for number in range(each):
            value = make(rng)
            yield Sample(sentences[number % len(sentences)].format(value), value, kind, rule)
    for name, (sentences, make) in NEGATIVES.items():
        rng = random.Random(f"{seed}/{name}")
        for number in range(each):
            value = make(rng)
            yield Sample(sentences[number % len(sentences)].format(value), value, "", name)


class Score(NamedTuple):
    """Of one kind: values found whole, values missed or found in part, and things found that are none."""

    found: int
    missed: int
    wrong: int

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + self.wrong)

    @property
    def recall(self) -> float:
        return self.found / max(1, self.found + self.missed)


def measure(labelled: list[Sample]) -> tuple[dict[str, Score], dict[str, Score], list[tuple[Sample, list[str]]]]:
    """Scores by kind and by rule or look-alike, and the sentences that went wrong with what was found in them."""
    kinds: dict[str, list[int]] = {}
    rules: dict[str, list[int]] = {}
    mistakes = []
    for sample in labelled:
        results = find(sample.text)
        right = [one for one in results if one.kind == sample.kind and sample.text[one.start : one.end] == sample.value]
        wrong = [one for one in results if one not in right]
        for table, key in ((kinds, sample.kind), (rules, sample.rule)):
            if key:
                row = table.setdefault(key, [0, 0, 0])
                row[0] += bool(right)
                row[1] += bool(sample.kind) and not right
                row[2] += len(wrong) if table is rules else 0
        for one in wrong:
            kinds.setdefault(one.kind, [0, 0, 0])[2] += 1
        if wrong or (sample.kind and not right):
            mistakes.append((sample, [f"{one.kind}: {sample.text[one.start : one.end]}" for one in results]))
    return (
        {kind: Score(*row) for kind, row in kinds.items()},
        {rule: Score(*row) for rule, row in rules.items()},
        mistakes,
    )
