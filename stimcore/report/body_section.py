"""Tables r1 and r2: the blocks of MobileNetV3's main body, and the ways in which the paper permutes them."""

from itertools import groupby

from stimcore.analysis import paper
from stimcore.report.results import ExperimentResults
from stimcore.report.section import Cell, Column, Section, Table
from stimcore.subnets.families import count_operations, permutations
from stimcore.subnets.spec import Spec

BODY_COLUMNS = (
    Column("block", 0),
    Column("input, paper"),
    Column("output channels, paper", 0),
    Column("stride, paper", 0),
    Column("stage, here", 0),
    Column("can be deleted or moved here"),
)
ARRANGEMENT_COLUMNS = (
    Column("operations", 0),
    Column("arrangement"),
    Column("main minus this, common, points"),
    Column("main minus this, stimulative, points"),
)


def body_sections(results: ExperimentResults) -> list[Section]:
    """Return Tables r1 and r2 beside what is here; nothing for networks that don't have this body."""
    if results.topology.sizes != tuple(len(stage) for stage in _STAGES):
        return []
    return [_table_r1(results), _table_r2(results)]


_STAGES = Spec.from_text(paper.TABLE_R2[1][0]).stages
"""Stages of an arrangement of Table r2; they hold as many blocks as the stages of the whole network."""


def _table_r1(results: ExperimentResults) -> Section:
    topology = results.topology
    stage_of = {block: number for number, stage in enumerate(topology.stages, 1) for block in stage}
    rows: list[tuple[Cell, ...]] = [
        (
            block.index,
            f"{block.side} x {block.side} x {block.channels_in}",
            block.channels_out,
            block.stride,
            stage_of[block.index],
            "no: " + topology.fixed[block.index] if block.index in topology.fixed else "yes",
        )
        for block in paper.TABLE_R1
    ]
    return Section(
        name="table-r1",
        title="Table r1: the main body of MobileNetV3",
        text=(
            f"The geometry is the paper's, at 224 pixels. The network here is {topology.network} on {results.dataset}: the "
            "same blocks, strides and skip paths; widths and resolutions may differ.",
        ),
        tables=(Table("table-r1", "The paper's body, and the same blocks here", BODY_COLUMNS, rows),),
    )


def _table_r2(results: ExperimentResults) -> Section:
    swept = results.swept("permute", ("common", "stimulative"))
    drops = {method: {result.spec: result.drop_pct for result in sweep.results} for method, sweep in swept.items()}
    printed = [(number, Spec.from_text(text)) for number, texts in paper.TABLE_R2.items() for text in texts]
    rows: list[tuple[Cell, ...]] = [
        (number, str(spec), *(drops.get(method, {}).get(spec) for method in ("common", "stimulative")))
        for number, spec in printed
    ]
    ours = set(permutations(results.topology))
    theirs = {spec for _, spec in printed}
    counts = ", ".join(
        f"{len(list(group))} with {number}" for number, group in groupby(sorted(map(count_operations, ours))) if number
    )
    return Section(
        name="table-r2",
        title="Table r2: the ways to permute its blocks",
        text=(
            f"The paper lists {len(theirs)} arrangements; {len(theirs & ours)} of them are among the {len(ours)} that this "
            f"network has (operations: {counts}).",
        ),
        tables=(Table("table-r2", "The paper's arrangements, measured here", ARRANGEMENT_COLUMNS, rows),),
        gaps=[] if swept else ["Not measured here: permutations."],
    )
