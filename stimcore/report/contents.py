"""The report of one experiment: its sections in the order of the page."""

from dataclasses import dataclass

from stimcore.report.bounds import table_bound
from stimcore.report.claims import Claim, judged
from stimcore.report.evidence import Evidence
from stimcore.report.methods import table_r3, table_r4
from stimcore.report.nested import table_gaps, table_nested
from stimcore.report.pictures import figure_r1, figure_r2, figure_r3, figure_r8, figures_damage
from stimcore.report.section import Section
from stimcore.report.settings import settings
from stimcore.report.verdicts import verdicts


@dataclass(frozen=True)
class Report:
    """One experiment's claims and sections."""

    evidence: Evidence
    claims: list[Claim]
    sections: list[Section]

    @property
    def gaps(self) -> list[tuple[str, str]]:
        """Title of the section and sentence, for everything that is missing."""
        return [(section.title, gap) for section in self.sections for gap in section.gaps]


def report(evidence: Evidence, beside: Evidence | None = None) -> Report:
    """Everything that the page, the CSV files and the Markdown are written from.

    Args:
        evidence: The experiment.
        beside: The experiment with its runs over lambda, None where there is none.
    """
    claims = judged(evidence)
    sections = [
        verdicts(claims),
        settings(evidence),
        table_r3(evidence),
        table_r4(evidence),
        table_nested(evidence),
        table_gaps(evidence),
        figure_r1(evidence),
        figure_r2(evidence),
        figure_r3(evidence, beside),
        *figures_damage(evidence),
        figure_r8(evidence),
        table_bound(evidence),
    ]
    return Report(evidence, claims, sections)
