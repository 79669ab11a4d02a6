"""List the paper's claims, each with its number, ours, the verdict and the command that shows it."""

import json
from dataclasses import asdict
from pathlib import Path

from tinyalex.commands.common import print_line
from tinyalex.commands.options import user_path
from tinyalex.errors import UsageError
from tinyalex.words import did_you_mean


def options(command):
    """Add the command's options to its parser."""
    command.add_argument(
        "numbers", nargs="*", metavar="N", help="show these claims in full (default: all, a line each)"
    )
    command.add_argument(
        "--verdict", metavar="V", help="only claims with this verdict, or with one that begins so: contradicted"
    )
    command.add_argument("--json", action="store_true", help="print the claims as JSON")
    command.add_argument("--html", type=user_path, metavar="FILE", help="write all claims to a web page")


def run(options):
    """Print claims, or write the page."""
    from tinyalex.claims import ledger, page
    from tinyalex.system import storage

    claims = ledger.load()
    if options.html:
        path = Path(options.html)
        if path.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--html {path}: a web page is written; give a name that ends in .html")
        storage.write_bytes(path, page.page(claims).encode(), may_replace=page.is_page)
        print_line(f"{path}: {ledger.totals(claims)}")
        return
    chosen = [ledger.find(claims, number) for number in options.numbers] or claims
    if options.verdict:
        chosen = [claim for claim in chosen if claim.verdict.startswith(options.verdict)]
        if not chosen:
            raise UsageError(
                f"--verdict {options.verdict}: no claim has it{did_you_mean(options.verdict, ledger.VERDICTS)}"
            )
    if options.json:
        print_line(json.dumps([asdict(claim) for claim in chosen], indent=2, ensure_ascii=False))
    elif options.numbers:
        print_line("\n\n".join(ledger.full(claim) for claim in chosen))
    else:
        print_line("\n".join(ledger.line(claim) for claim in chosen))
        print_line(ledger.totals(chosen))
