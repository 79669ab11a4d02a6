"""The paper's claims as a web page, complete in one file."""

import re
from collections.abc import Sequence
from hashlib import blake2b
from html import escape
from pathlib import Path

from tinyalex.claims.ledger import VERDICTS, Claim, section_name, totals

_STYLE = """
:root { color-scheme: light dark; --line: #d0d7de; --quiet: #59636e; --back: #fff; --ink: #1f2328; }
@media (prefers-color-scheme: dark) { :root { --line: #3d444d; --quiet: #9198a1; --back: #0d1117; --ink: #e6edf3; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 2rem auto;
       max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .5rem .6rem .5rem 0; text-align: left; vertical-align: top; }
th:nth-child(2) { width: 42%; } th:nth-child(3) { width: 12%; } th:nth-child(4) { width: 20%; }
td:first-child { font-variant-numeric: tabular-nums; }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
small { color: var(--quiet); display: block; overflow-wrap: anywhere; }
i { color: var(--quiet); font-style: normal; white-space: nowrap; }
.verdict { font-weight: 600; }
.reproduced, .asserted { color: #1a7f37; } .contradicted { color: #cf222e; }
.undecided, .not, .cannot { color: var(--quiet); }
@media (prefers-color-scheme: dark) { .reproduced, .asserted { color: #3fb950; } .contradicted { color: #f85149; } }
@media (max-width: 48rem) {
  thead { display: none; } tr { display: block; border-bottom: 1px solid var(--line); padding: .6rem 0; }
  td { display: block; border: 0; padding: .1rem 0; } td:empty { display: none; }
  td[data-name]::before { content: attr(data-name) ": "; color: var(--quiet); }
}
"""


def page(claims: Sequence[Claim]) -> str:
    """Return the page: a table of all claims, in HTML that names no other file.

    Parameters
    ----------
    claims : sequence of Claim
    """
    meanings = "".join(f"<li><b>{escape(verdict)}</b>: {escape(text)}</li>" for verdict, text in VERDICTS.items())
    rows = "\n".join(_row(claim) for claim in claims)
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The paper's claims, and ours</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>The paper's claims, and what tinyalex found</h1>
<p>Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks (2012), claim by
claim, each with the command that shows it. {escape(totals(claims))}.</p>
<ul>{meanings}</ul>
<table>
<thead><tr><th>#</th><th>claim</th><th>paper</th><th>ours</th><th>verdict</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""
    return f"{text}<!-- written by tinyalex claims: {_digest(text)} -->\n"


def is_page(path: Path) -> bool:
    """Return whether a file is a page that `page` made and nobody has changed."""
    text = path.read_text(encoding="utf-8", errors="replace")
    end = re.search(r"<!-- written by tinyalex claims: (\w+) -->\n\Z", text)
    return end is not None and end[1] == _digest(text[: end.start()])


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _row(claim: Claim) -> str:
    takes = f" ({escape(claim.time)})" if claim.time else ""
    command = f"<small><code>{escape(claim.command)}</code>{takes}</small>" if claim.command else ""
    kept = f"<small>kept in {escape(', '.join(claim.evidence))}</small>" if claim.evidence else ""
    why = f"<small>{escape(claim.why)}</small>" if claim.why else ""
    kind = claim.verdict.split()[0]
    return (
        (
            f'<tr id="claim-{escape(claim.number)}"><td>{escape(claim.number)}</td>'
            f"<td>{escape(claim.claim)} <i>{escape(section_name(claim))}</i>{command}{kept}</td>"
            f'<td data-name="paper">{escape(claim.paper)}</td><td data-name="ours">{escape(claim.ours)}</td>'
            f'<td><span class="verdict {kind}">{escape(claim.verdict)}</span>{why}</td></tr>'
        )
        .replace('<td data-name="paper"></td>', "<td></td>")
        .replace('<td data-name="ours"></td>', "<td></td>")
    )
