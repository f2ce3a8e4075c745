"""The paper's claims: their criteria, the paper's numbers, and the verdicts on an experiment.

The criteria were fixed before any number was seen, except for those that state otherwise. A claim whose results are missing is
not measured, which is neither holding nor failing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from stimcore.report.criteria import accuracy, cost, edits, loafing, methods
from stimcore.report.criteria.finding import Finding
from stimcore.report.results import ExperimentResults
from stimcore.report.section import Column, Section, Table

HOLDS, FAILS, UNMEASURED = "holds", "does not hold", "not measured"
ADDED = (
    "Added after the first numbers were seen: ordered sub-networks keep these blocks, and the paper's network can't lose one."
)
ANY_BLOCK = "Added after a first run was seen. A variant of ours that draws any deletions, first blocks of stages too:"


PAPERS, OURS = "What the paper claims", "What we add"
"""Titles of the two groups of claims."""

Criterion = Callable[[ExperimentResults], Finding]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and the verdict on it.

    Attributes:
        name: Short and stable name.
        criterion: What must be seen for the claim to hold.
        printed: The paper's numbers.
        finding: What the stored results say.
    """

    name: str
    criterion: str
    printed: str
    finding: Finding

    @property
    def added(self) -> bool:
        """Whether the claim is ours: a criterion that the paper does not state."""
        return is_added(self.criterion)

    @property
    def verdict(self) -> str:
        """`holds`, `does not hold` or `not measured`."""
        if self.finding.holds is None:
            return UNMEASURED
        return HOLDS if self.finding.holds else FAILS

    @property
    def clarity(self) -> str:
        """Whether the interval confirms the verdict: `clearly`, `one seed` or `within noise`; empty without an interval.

        An interval over the choice of images says nothing of the luck of a seed: with one seed no verdict is clear.
        """
        if self.finding.clear is None:
            return ""
        if not self.finding.clear:
            return "within noise"
        return "clearly" if self.finding.seeds > 1 else "one seed"

    @property
    def full_verdict(self) -> str:
        """The verdict and how clear it is: `holds, within noise`."""
        return f"{self.verdict}, {self.clarity}" if self.clarity else self.verdict


CLAIMS: Sequence[tuple[str, str, str, Criterion]] = (
    (
        "main",
        "Stimulative training's main network is at least as accurate as common training's.",
        "stimulative 81.07, common 77.39 (also 96.88 and 95.72; 81.06 and 76.53)",
        accuracy.main_accuracy,
    ),
    (
        "all-mean",
        "With stimulative training the mean over all ordered sub-networks is within 2 points of the main network.",
        "81.07 - 80.01 = 1.06 points (common: 77.39 - 55.26 = 22.13)",
        accuracy.near_main,
    ),
    (
        "deviation",
        "Their standard deviation is at most a tenth of common training's.",
        "0.59 / 13.37 = 0.044",
        accuracy.deviation,
    ),
    (
        "every sub-network",
        "Every ordered sub-network is at least as accurate with stimulative as with common training.",
        "Fig. r1, no numbers printed",
        accuracy.every_subnet,
    ),
    (
        "one block deleted",
        "With stimulative training, deleting any one removable block costs less than 1 point.",
        "Figs r4 to r7, no numbers printed",
        edits.one_block,
    ),
    (
        "blocks deleted",
        "For every number of deleted blocks, stimulative training's median drop is smaller than common training's.",
        "Figs r4 to r7, no numbers printed",
        edits.deletion,
    ),
    (
        "blocks permuted",
        "For every number of permuting operations, stimulative training's median drop is smaller than common training's.",
        "Figs r4 to r7, no numbers printed",
        edits.permutation,
    ),
    (
        "one later block deleted",
        f"The same as 'one block deleted', among blocks that are not the first of their stage. {ADDED}",
        "Figs r4 to r7, no numbers printed",
        partial(edits.one_block, later=True),
    ),
    (
        "later blocks deleted",
        f"The same as 'blocks deleted', where the first block of every stage stays. {ADDED}",
        "Figs r4 to r7, no numbers printed",
        partial(edits.deletion, later=True),
    ),
    (
        "later blocks permuted",
        f"The same as 'blocks permuted', where the first block of every stage stays in its place. {ADDED}",
        "Figs r4 to r7, no numbers printed",
        partial(edits.permutation, later=True),
    ),
    (
        "any block deleted",
        f"{ANY_BLOCK} deleting any one removable block costs less than 1 point.",
        "not in the paper",
        edits.any_block,
    ),
    (
        "any block, main network",
        f"{ANY_BLOCK} the main network is at least as accurate as with ordered sub-networks.",
        "not in the paper",
        accuracy.any_block_main,
    ),
    (
        "any block, sub-networks",
        f"{ANY_BLOCK} the mean over all ordered sub-networks is less than 1 point below that of training on these.",
        "not in the paper",
        accuracy.any_block_subnets,
    ),
    (
        "loafing",
        "Inside a commonly trained network every measured sub-network is worse than its twin, trained alone.",
        "DenseNet121: 78.84 alone, 10.01 to 43.64 inside (Table r6)",
        loafing.common_loafs,
    ),
    (
        "gap closed",
        "Stimulative training makes every twin's gap smaller than common training does.",
        "no numbers in the appendix",
        loafing.stimulative_closes,
    ),
    (
        "deeper loafs more",
        "The same sub-network is worse the deeper the commonly trained network it sits in.",
        "DenseNet121: 78.84, 43.64, 31.51, 10.01 (Table r6)",
        loafing.deeper_loafs,
    ),
    (
        "best of six",
        "Of the six methods, stimulative training has the most accurate main network and the highest all-mean.",
        "81.07 and 80.01 lead both columns of Table r3",
        methods.best_of_all,
    ),
    (
        "order of six",
        "The six methods stand in the paper's order, by main accuracy and by all-mean.",
        "Table r3",
        methods.ordering,
    ),
    (
        "lambda",
        "With every lambda the main network is more accurate than with common training.",
        "Fig. r3, no numbers printed; best lambda 5, 10, 10 and 1, of an average that the paper leaves open",
        methods.every_lambda,
    ),
    (
        "time",
        "Stimulative training takes less than twice as long as common training.",
        "24.08 h / 16.91 h = 1.42",
        cost.time,
    ),
    (
        "memory",
        "Stimulative training needs as much memory as common training, give or take a tenth.",
        "3291 MiB / 3291 MiB = 1.00",
        cost.memory,
    ),
    (
        "bound",
        "The gap of mean cross entropies stays below the bound of Appendix B.",
        "no numbers printed",
        loafing.bounded,
    ),
)
"""Name, criterion, the paper's numbers, and the function that judges it."""


def is_added(criterion: str) -> bool:
    """Return whether a criterion is ours and not the paper's.

    Example:
        >>> is_added(CLAIMS[0][1]), is_added(f"The same among later blocks. {ADDED}")
        (False, True)
    """
    return ADDED in criterion or ANY_BLOCK in criterion


def judge_claims(results: ExperimentResults) -> list[Claim]:
    """Return every claim with the verdict on this experiment."""
    return [Claim(name, criterion, printed, judge(results)) for name, criterion, printed, judge in CLAIMS]


def claims_section(claims: Sequence[Claim]) -> Section:
    """Return the section with one row per claim; those that could not be measured state what is missing."""
    columns = (Column("claim"), Column("verdict here"), Column("criterion"), Column("paper"), Column("measured here"))
    tables = [
        Table(
            name,
            title,
            columns,
            [(claim.name, claim.full_verdict, claim.criterion, claim.printed, claim.finding.measured) for claim in rows],
        )
        for name, title, rows in (
            ("claims", PAPERS, measured_claims(claims)),
            ("claims-added", OURS, measured_claims(claims, added=True)),
        )
        if rows
    ]
    return Section(
        name="claims",
        title="Which of the paper's claims hold here",
        text=(
            "The criteria were fixed before any number was seen, except for those that state otherwise. The verdict follows "
            "from the measured number; 'clearly' means that its whole interval over several seeds confirms it, and that over "
            "images as well where two networks are compared; 'one seed' that its interval confirms it for the only seed there "
            "is; and 'within noise' that it does not.",
        ),
        tables=tables,
        gaps=[sentence] if (sentence := unmeasured_sentence(claims)) else [],
    )


def measured_claims(claims: Sequence[Claim], *, added: bool = False) -> list[Claim]:
    """Return the claims that the experiment says something about: the paper's, or those that we added."""
    return [claim for claim in claims if claim.added == added and claim.verdict != UNMEASURED]


def unmeasured_sentence(claims: Sequence[Claim]) -> str:
    """Return a sentence that names the claims which the experiment has no results for; empty when there are none."""
    names = [claim.name for claim in claims if claim.verdict == UNMEASURED]
    return f"This experiment does not measure: {', '.join(names)}." if names else ""
