"""The claims as a section: criterion, paper, measured here, verdict."""

from stimcore.report.claims import Claim
from stimcore.report.section import Column, Section, Table


def verdicts(claims: list[Claim]) -> Section:
    """One row per claim; those that could not be measured say what is missing."""
    table = Table(
        "claims",
        "Claims",
        (Column("claim"), Column("verdict here"), Column("criterion"), Column("paper"), Column("measured here")),
        [(claim.name, spoken(claim), claim.criterion, claim.printed, claim.finding.measured) for claim in claims],
    )
    return Section(
        name="claims",
        title="Which of the paper's claims hold here",
        text=(
            "The criteria were fixed before any number was seen, but for those that say so. The verdict follows from the "
            "measured number; 'clearly' "
            "means that "
            "its whole interval says the same, 'within noise' that it doesn't.",
        ),
        tables=(table,),
    )


def spoken(claim: Claim) -> str:
    """The verdict with how clear it is: `holds, within noise`."""
    return f"{claim.verdict}, {claim.clarity}" if claim.clarity else claim.verdict
