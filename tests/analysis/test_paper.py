"""The literal tables fit each other and our own definitions."""

from stimcore.analysis import paper
from stimcore.methods.table import METHODS
from stimcore.subnets.families import count_operations, permutations
from stimcore.subnets.topology import Topology

MOBILENETV3 = Topology.of("mobilenetv3", [2, 3, 4, 2, 3], fixed=dict.fromkeys([1, 3, 6, 10, 12], "no identity shortcut"))


def test_table_r2_is_our_family_of_permutations() -> None:
    for number, specs in paper.TABLE_R2.items():
        ours = {str(spec) for spec in permutations(MOBILENETV3, number)}
        assert ours == set(specs)
        assert len(specs) == len(ours)
        assert {count_operations(MOBILENETV3.parse(spec)) for spec in specs} == {number}
    assert sum(map(len, paper.TABLE_R2.values())) == 23


def test_table_r1_is_a_chain_and_says_which_blocks_can_go() -> None:
    rows = paper.TABLE_R1
    assert [row.index for row in rows] == list(range(1, 15))
    for before, after in zip(rows, rows[1:], strict=False):
        assert after.channels_in == before.channels_out
        assert after.side == before.side // before.stride
    removable = tuple(row.index for row in rows if row.stride == 1 and row.channels_in == row.channels_out)
    assert removable == MOBILENETV3.removable


def test_tables_r3_r4_and_quotes_agree() -> None:
    rows = {row.method: row for row in paper.TABLE_R3}
    column = next(c for c in paper.TABLE_R4 if c.printed == "MBV3_C100")
    for method, hours, memory in (
        ("common", column.common_hours, column.common_mib),
        ("stimulative", column.stimulative_hours, column.stimulative_mib),
    ):
        assert (rows[method].hours, rows[method].memory_mib) == (hours, memory)
    assert (rows["stimulative"].main_pct, rows["common"].main_pct) == paper.QUOTED_R2[1]
    for c in paper.TABLE_R4:
        assert abs(c.stimulative_hours / c.common_hours - paper.TIME_RATIO) < 0.03
        assert c.stimulative_mib == c.common_mib


def test_methods_of_the_paper_are_ours() -> None:
    named = {row.method for row in paper.TABLE_R3} | set(paper.DAMAGE_FIGURES.values())
    assert {name for name in named if name in METHODS} >= {"common", "stimulative"}
    assert len(named) == len(paper.TABLE_R3) == 6


def test_matrices_are_upper_triangles_in_which_deeper_mains_loaf_more() -> None:
    for table in (paper.TABLE_R5, paper.TABLE_R6):
        size = len(table.networks)
        assert len(table.cells) == size * (size + 1) // 2
        for i, name in enumerate(table.networks):
            along = [table.cells[name, column] for column in table.networks[i:]]
            assert along == sorted(along, reverse=True)


def test_every_figure_is_named() -> None:
    assert list(paper.FIGURES) == [f"r{i}" for i in range(1, 9)]
    assert set(paper.DAMAGE_FIGURES) <= set(paper.FIGURES)
