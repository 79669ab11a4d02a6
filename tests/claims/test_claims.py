"""The list of the paper's claims: every verdict has evidence, which exists and has our number."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tests.programs import check_site
from tinyalex import cli
from tinyalex.claims import ledger, page

ROOT = Path(__file__).parents[2]
CLAIMS = ledger.load()
SHOWN = {"reproduced", "asserted", "contradicted", "contradicted by the authors' files"}


def numbers(text):
    """Numbers of a text as they are written, without the commas or underscores between thousands."""
    return set(re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d)[,_](?=\d{3})", "", text)))


def faults(claim, root=ROOT):
    """What is wrong with a claim's evidence, as lines of text."""
    found, texts = [], ""
    for entry in claim.evidence:
        name, _, test = entry.partition("::")
        path = root / name
        if not path.is_file():
            found.append(f"{name} does not exist")
            continue
        text = "" if path.suffix == ".png" else path.read_text(encoding="utf-8")
        if test and not re.search(rf"^def {test}\(", text, re.M):
            found.append(f"{name} has no test {test}")
        texts += text
    missing = (
        {number for number in numbers(claim.ours) - numbers(texts) if len(number) > 1} if claim.evidence else set()
    )
    if missing:
        found.append(f"nothing in its evidence has {', '.join(sorted(missing))}")
    if claim.verdict in SHOWN and not claim.evidence:
        found.append("no evidence")
    if claim.verdict in SHOWN and not (claim.command and claim.time):
        found.append("no command and time")
    if claim.verdict not in SHOWN and not claim.why:
        found.append("no reason")
    return found


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.number)
def test_a_claim_has_a_verdict_and_its_evidence(claim):
    assert claim.verdict in ledger.VERDICTS
    assert not faults(claim)


def test_evidence_that_is_gone_or_has_another_number_is_noticed():
    claim = next(claim for claim in CLAIMS if claim.number == "1")
    assert not faults(claim)
    gone = replace(claim, evidence=("lessons/10_network.py", "lessons/99_nothing.py"))
    assert faults(gone) == ["lessons/99_nothing.py does not exist"]
    renamed = replace(claim, evidence=("lessons/10_network.py", "tests/network/test_alexnet.py::test_of_another_name"))
    assert faults(renamed) == ["tests/network/test_alexnet.py has no test test_of_another_name"]
    assert faults(replace(claim, ours="60,965,225")) == ["nothing in its evidence has 60965225"]
    assert faults(replace(claim, evidence=())) == ["no evidence"]
    assert faults(replace(claim, verdict="not shown yet")) == ["no reason"]


def test_all_claims_are_there_in_the_order_of_the_paper():
    assert len(CLAIMS) == len({claim.number for claim in CLAIMS}) == 111
    assert {int(claim.number.rstrip("abcd")) for claim in CLAIMS} == set(range(1, 107))
    sections = [claim.section for claim in CLAIMS if claim.section != "abstract"]
    assert [float(section) // 1 for section in sections] == sorted(float(section) // 1 for section in sections)
    assert sum(claim.verdict in SHOWN for claim in CLAIMS) >= 77


def test_commands_are_those_of_the_project():
    parser = cli._parsers()[1]
    for claim in CLAIMS:
        words = shlex.split(claim.command)
        if not words:
            continue
        assert words[0] in ("tinyalex", "python", "pytest"), claim
        if words[0] == "tinyalex":
            parser[words[1]].parse_intermixed_args(words[2:])
        for word in words[1:]:
            if word.startswith(("lessons/", "tests/")):
                assert (ROOT / word).exists(), claim


def run(capsys, *arguments):
    code = cli.main(["claims", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_command_prints_a_line_for_each_claim_its_number_first(capsys):
    code, out, _ = run(capsys)
    *lines, total = out.splitlines()
    assert code == 0 and [line.split()[0] for line in lines] == [claim.number for claim in CLAIMS]
    assert total.startswith("111 claims: ")
    for line, claim in zip(lines, CLAIMS, strict=True):
        assert f"[{claim.verdict}]" in line and claim.claim in line and claim.command in line
        assert claim.paper in line and claim.ours in line and all(entry in line for entry in claim.evidence)


def test_claims_are_chosen_by_number_and_by_verdict(capsys):
    _, out, _ = run(capsys, "#61", "62a")
    assert out.startswith("61. §3.5: ") and "\n\n62a. §4.1: " in out
    assert re.search(r"^ours +290,400 in the first layer", out, re.M) and re.search(
        r"^verdict +contradicted:", out, re.M
    )
    _, out, _ = run(capsys, "--json", "--verdict", "contradicted")
    chosen = json.loads(out)
    assert {claim["verdict"] for claim in chosen} == {"contradicted", "contradicted by the authors' files"}
    assert run(capsys, "0")[::2] == (
        2,
        "tinyalex: error: claim 0: there is none of this number; give one from 1 to 106\n",
    )
    assert "did you mean" in run(capsys, "--verdict", "reproducd")[2]


def test_the_page_has_every_claim_and_names_no_other_file(tmp_path, capsys):
    path = tmp_path / "claims.html"
    assert run(capsys, "--html", str(path))[0] == 0
    text = path.read_text(encoding="utf-8")
    assert re.findall(r'<tr id="claim-(\w+)">', text) == [claim.number for claim in CLAIMS]
    assert "authors&#x27; files" in text and not list(check_site.broken_links(tmp_path))
    assert not re.search(r"(src|href)=", text)
    odd = replace(CLAIMS[0], claim='<b>&"', why="<script>")
    assert "<b>&" not in page.page([odd]) and "<script>" not in page.page([odd])


def test_a_page_that_somebody_changed_is_not_replaced(tmp_path, capsys):
    path = tmp_path / "claims.html"
    assert run(capsys, "--html", str(path))[0] == 0
    path.write_text(page.page(CLAIMS[:3]), encoding="utf-8")  # of an earlier version
    assert run(capsys, "--html", str(path))[0] == 0 and "claim-106" in path.read_text(encoding="utf-8")
    changed = path.read_text(encoding="utf-8").replace("60 million", "my notes")
    path.write_text(changed, encoding="utf-8")
    code, _, error = run(capsys, "--html", str(path))
    assert code == 7 and "exists already" in error and path.read_text(encoding="utf-8") == changed
    assert run(capsys, "--html", str(tmp_path / "claims.txt"))[0] == 2
