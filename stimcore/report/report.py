"""The report of one experiment: its claims, and its sections in the order of the page."""

from dataclasses import dataclass

from stimcore.report.body_section import body_sections
from stimcore.report.bound_section import bound_section
from stimcore.report.claims import Claim, claims_section, judge_claims
from stimcore.report.comparison_section import comparison_section
from stimcore.report.damage_sections import damage_sections
from stimcore.report.figure_sections import figure_r1, figure_r2, figure_r3, figure_r8, training_fans
from stimcore.report.method_sections import table_r3, table_r4
from stimcore.report.nested_sections import gaps_section, nested_section
from stimcore.report.recalibration_section import recalibration_section
from stimcore.report.results import ExperimentResults
from stimcore.report.section import Section
from stimcore.report.settings_section import settings_section


@dataclass(frozen=True)
class ExperimentReport:
    """The report of one experiment; page, CSV files, JSON and Markdown are written from it.

    Attributes:
        results: Stored results that it was made from.
        claims: Claims of the paper with their verdicts.
        sections: Sections in the order of the page.
    """

    results: ExperimentResults
    claims: list[Claim]
    sections: list[Section]

    @property
    def gaps(self) -> list[tuple[str, str]]:
        """Title of the section and sentence, for everything that is missing."""
        return [(section.title, gap) for section in self.sections for gap in section.gaps]


def build_report(results: ExperimentResults, lambda_results: ExperimentResults | None = None) -> ExperimentReport:
    """Return the report of an experiment.

    Args:
        results: The experiment.
        lambda_results: The experiment with its runs over lambda, None where there is none.
    """
    claims = judge_claims(results)
    sections = [
        claims_section(claims),
        settings_section(results),
        *body_sections(results),
        table_r3(results),
        *comparison_section(results),
        table_r4(results),
        nested_section(results),
        gaps_section(results),
        *recalibration_section(results),
        figure_r1(results),
        figure_r2(results),
        *training_fans(results),
        figure_r3(results, lambda_results),
        *damage_sections(results),
        figure_r8(results),
        bound_section(results),
    ]
    return ExperimentReport(results, claims, sections)
