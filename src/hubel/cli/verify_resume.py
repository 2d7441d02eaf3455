"""`hubel verify-resume`: proves on this machine that resuming is exact."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from hubel.cli.arguments import Choices, Positional, Seed
from hubel.documents import Range
from hubel.foreign import in_markup
from hubel.recipe import Recipe

if TYPE_CHECKING:
    from rich.console import Console

    from hubel.pipeline.verify_resume import Killed, Undisturbed, Verdict


@dataclass(frozen=True, kw_only=True)
class VerifyResume:
    """Prove on this machine that resuming is exact: train, kill, resume, compare.  Exit code 1 if it is not."""

    data: Positional[str] = "digits"
    """as for train"""
    kills: Annotated[int, Range(1, 10_000)] = 5
    """SIGKILLs at random moments"""
    moments: Seed = 0
    """seed of the moments"""
    recipe: Choices = Recipe()  # noqa: RUF009 -- frozen
    json: bool = False
    """print one JSON object"""


def verify_resume(arguments: VerifyResume) -> int:
    """Kills, resumes, compares."""
    from hubel.pipeline.verify_resume import verify
    from hubel.terminal import console_for

    plain = Recipe().to_dict()
    keys = [f"{key}={value}" for key, value in arguments.recipe.to_dict().items() if value != plain[key]]
    records = verify([arguments.data, *keys], arguments.kills, arguments.moments)
    verdict = show(records, console_for(arguments.json))
    if arguments.json:
        print(
            json.dumps(
                {
                    "same": verdict.same,
                    "kills": verdict.kills,
                    "undisturbed": verdict.undisturbed,
                    "resumed": verdict.resumed,
                }
            )
        )
    return 0 if verdict.same else 1


def show(records: "Iterable[Undisturbed | Killed | Verdict]", console: "Console") -> "Verdict":
    """Each kill as it falls, then the verdict, which is returned."""
    from hubel.pipeline.verify_resume import Killed, Undisturbed

    for record in records:
        if isinstance(record, Undisturbed):
            console.print(f"undisturbed: {record.seconds:.1f} s, weights {record.sha256[:16]}", highlight=False)
        elif isinstance(record, Killed):
            console.print(f"kill {record.number}: {in_markup(record.state)}", highlight=False)
        else:
            for key, value in record.undisturbed.items():
                console.print(f"{key}: undisturbed {value[:16]}, resumed {record.resumed[key][:16]}", highlight=False)
            word = "[green]the same to the last bit[/]" if record.same else "[red]not the same[/]"
            console.print(f"after {record.kills} kills: {word}", highlight=False)
            return record
    raise AssertionError("a verification ends with its verdict")
