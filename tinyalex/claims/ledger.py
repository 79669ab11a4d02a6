"""Reads the list of the paper's claims, ``claims.toml``, and formats it as text."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from tinyalex.errors import UsageError
from tinyalex.words import counted

VERDICTS = {  # and what each means
    "reproduced": "our own count or measurement agrees",
    "asserted": "a definition that the code keeps, held by a test",
    "contradicted": "our own count or measurement does not agree",
    "contradicted by the authors' files": "the program of 2012 does something else",
    "undecided at this size": "what we have measured cannot tell; with the command that can",
    "not shown yet": "nothing is recorded that shows it",
    "cannot be had here": "with the reason",
}


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes
    ----------
    number : str
        Digits, and a letter where a claim was divided.
    section : str
        Of the paper; "abstract" before the first.
    claim : str
        In our words.
    verdict : str
        One of `VERDICTS`.
    paper, ours : str
        The paper's number and ours; empty where there is none.
    why : str
        What else the verdict rests on.
    command, time : str
        What shows it, and about how long that takes, on two cores unless it says otherwise.
    evidence : tuple of str
        Files of the repository: recorded runs, lessons, and tests as ``FILE::NAME``.
    """

    number: str
    section: str
    claim: str
    verdict: str
    paper: str = ""
    ours: str = ""
    why: str = ""
    command: str = ""
    time: str = ""
    evidence: tuple[str, ...] = ()


def load() -> list[Claim]:
    """Return all claims, in the order of the paper's text.

    Examples
    --------
    >>> from tinyalex.claims import ledger
    >>> first = ledger.load()[0]
    >>> first.paper, first.ours, first.verdict
    ('60 million', '60,965,224', 'reproduced')
    """
    text = (resources.files("tinyalex") / "claims" / "claims.toml").read_text(encoding="utf-8")
    return [Claim(**{**entry, "evidence": tuple(entry.get("evidence", ()))}) for entry in tomllib.loads(text)["claim"]]


def find(claims: Iterable[Claim], number: str) -> Claim:
    """Return the claim of a number, with or without a # before it; UsageError if there is none."""
    by_number = {claim.number: claim for claim in claims}
    key = number.strip().lstrip("#").lower()
    if key not in by_number:
        last = max(int(each) for each in by_number if each.isdigit())
        raise UsageError(f"claim {number}: there is none of this number; give one from 1 to {last}")
    return by_number[key]


def section_name(claim: Claim) -> str:
    """Return "abstract" or, for a section, its number after a section sign."""
    return claim.section if claim.section == "abstract" else f"§{claim.section}"


def line(claim: Claim) -> str:
    """Return a claim as one line of text, its number first."""
    numbers = [f"{name}: {value}" for name, value in (("paper", claim.paper), ("ours", claim.ours)) if value]
    shown = [f"shown by: {claim.command}"] if claim.command else []
    kept = [f"kept in: {', '.join(claim.evidence)}"] if claim.evidence else []
    rest = "; ".join([*numbers, *([claim.why.rstrip(".")] if not claim.ours and claim.why else []), *shown, *kept])
    return f"{claim.number:>4}  [{claim.verdict}] {section_name(claim)}: {claim.claim} {rest}".rstrip()


def full(claim: Claim) -> str:
    """Return all that is known of a claim, in several lines."""
    rows = [
        ("paper", claim.paper),
        ("ours", claim.ours),
        ("verdict", f"{claim.verdict}: {VERDICTS[claim.verdict]}"),
        ("why", claim.why),
        ("to see it", claim.command + (f"   (about {claim.time})" if claim.time else "")),
        *(("kept in", path) for path in claim.evidence),
    ]
    lines = [f"{name:<10} {value}" for name, value in rows if value]
    return "\n".join([f"{claim.number}. {section_name(claim)}: {claim.claim}", *lines])


def totals(claims: Iterable[Claim]) -> str:
    """Return a line with the number of claims of each verdict."""
    verdicts = [claim.verdict for claim in claims]
    parts = [f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in verdicts]
    return f"{counted(len(verdicts), 'claim')}: {', '.join(parts)}"
