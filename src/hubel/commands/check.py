"""`hubel check`: what is wrong with labelled pictures, before a network learns it; shown to a person."""

import importlib.metadata
import shlex
from itertools import groupby
from pathlib import Path

from rich.console import Console

from hubel import files
from hubel.audit import KINDS
from hubel.audit.check import CheckResult, write_fix
from hubel.audit.wholeness import pixels
from hubel.data.exclusions import relative
from hubel.foreign import in_markup
from hubel.report import FindingsPage, Group, Shown, render_findings

EXAMPLES = 3  # findings of a kind that the terminal shows
DRAWN, TOGETHER, NAMED = 24, 4, 1000  # findings of a kind on the page, pictures of one finding, findings in words only
PICTURE = 168  # px: side of a picture on the page


def show_findings(checked: CheckResult, console: Console) -> None:
    """A paragraph per kind: how many, why it matters, some examples."""
    source = checked.audit.inventory.opened.source
    pictures = ", ".join(
        f"{len(part.labels):,}{'' if name == 'all' else ' ' + name}" for name, part in source.parts.items()
    )
    console.print(
        f"[bold]{in_markup(source.name)}[/]  {len(checked.audit.inventory.classes):,} classes, {pictures} pictures, "
        f"looked at in {checked.seconds:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    for note in source.notes:
        console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False, soft_wrap=True)
    for kind, group in groupby(checked.findings, key=lambda finding: finding.kind):
        some = list(group)
        console.print(
            f"\n[bold]{len(some):>6,}  {KINDS[kind].title}[/]  [dim]{KINDS[kind].why}[/]",
            highlight=False,
            soft_wrap=True,
        )
        for finding in some[:EXAMPLES]:
            shown = in_markup(", ".join(relative(source, path) for path in finding.paths[:4]))
            more = f" and {len(finding.paths) - 4:,} more" if len(finding.paths) > 4 else ""
            console.print(
                f"        {shown}{more}{': ' if shown else ''}{in_markup(finding.detail)}",
                highlight=False,
                soft_wrap=True,
            )
        if len(some) > EXAMPLES:
            console.print(f"        [dim]and {len(some) - EXAMPLES:,} more[/]", highlight=False)
    console.print(f"\nlabels: {in_markup(checked.words)}", highlight=False, soft_wrap=True)
    if not checked.findings:
        console.print("[green]nothing found[/]", highlight=False)


def page(checked: CheckResult) -> FindingsPage:
    """The findings with their pictures, for `report`."""
    inventory = checked.audit.inventory
    source = inventory.opened.source

    def shown(number: int) -> Shown:
        return Shown(
            relative(source, inventory.names[number]),
            inventory.label(number),
            inventory.parts[inventory.part[number]],
            pixels(inventory, number, PICTURE),
        )

    groups = []
    for kind, members in groupby(checked.findings, key=lambda finding: finding.kind):
        found = list(members)
        items = [
            ([shown(i) for i in finding.pictures[:TOGETHER]], max(0, len(finding.pictures) - TOGETHER), finding.detail)
            for finding in found[:DRAWN]
        ]
        others = [
            f"{', '.join(relative(source, path) for path in finding.paths[:TOGETHER])}: {finding.detail}"
            for finding in found[DRAWN : DRAWN + NAMED]
        ]
        groups.append(Group(kind, KINDS[kind].title, KINDS[kind].why, items, others, len(found)))
    return FindingsPage(
        data=source.name,
        parts={name: len(part.labels) for name, part in source.parts.items()},
        classes=len(inventory.classes),
        groups=groups,
        judge=checked.words,
        notes=source.notes,
        command=f"hubel check {shlex.quote(source.name)} --fix leave_out.csv\n"
        f"hubel train {shlex.quote(source.name)} exclude=leave_out.csv",
        version=importlib.metadata.version("hubel"),
    )


def conclude(checked: CheckResult, console: Console, *, fix: str | None, html: str | None) -> None:
    """Writes what was asked for and says where it lies.

    Raises:
        FileError: it cannot be written.
    """
    if html:
        files.write(Path(html), render_findings(page(checked)))
        console.print(f"page: {in_markup(html)}", highlight=False, soft_wrap=True)
    if fix:
        count = write_fix(checked, fix)
        name = shlex.quote(checked.audit.inventory.opened.source.name)
        exclude = shlex.quote(f"exclude={fix}")
        advice = (
            f"{count:,} pictures to leave out: {fix}; hubel train {name} {exclude}"
            if count
            else (
                f"nothing has to be left out; what is in doubt is in {fix}: where exclude says yes, hubel train {name} "
                f"{exclude} leaves it out"
            )
        )
        console.print(in_markup(advice), highlight=False, soft_wrap=True)
