"""How cells are written: missing is never zero, infinity has a word, small negatives are not minus zero."""

import math

import pytest

from stimcore.analysis.estimates import Estimate
from stimcore.report.section import Cell, Column, Table, format_cell, table_csv, table_dict, table_fields


@pytest.mark.parametrize(
    ("cell", "column", "text"),
    [
        (None, Column("a"), "–"),
        (0.0, Column("a"), "0.00"),
        (-0.001, Column("a"), "0.00"),
        (-0.01, Column("a"), "-0.01"),
        (3291, Column("a"), "3,291"),
        (1234567.0, Column("a", 3, general=True), "1.23e+06"),
        (math.inf, Column("a"), "beyond any float"),
        ("words", Column("a"), "words"),
        (Estimate(90.956, 90.4, 91.5), Column("a"), "90.96 [90.40, 91.50]"),
        (Estimate(1.0, 0.5, math.inf), Column("a", 1), "1.0 [0.5, beyond any float]"),
    ],
)
def test_format_cell(cell: Cell, column: Column, text: str) -> None:
    assert format_cell(cell, column) == text


def test_table_fields_give_estimates_three_fields_and_missing_ones_none() -> None:
    table = Table("t", "T", [Column("name"), Column("x"), Column("y")], [("a, b", Estimate(1, 0.5, 2), 3), ("c", None, None)])
    assert table_fields(table) == [["name", "x", "x low", "x high", "y"], ["a, b", "1", "0.5", "2", "3"], ["c", "", "", "", ""]]
    assert table_csv(table).splitlines()[1] == '"a, b",1,0.5,2,3'
    assert table_dict(table)["rows"] == [["a, b", {"value": 1, "low": 0.5, "high": 2}, 3], ["c", None, None]]


def test_a_number_over_seeds_has_its_interval_over_images_everywhere() -> None:
    rows = [("a", Estimate(0.06, 0.02, 0.09, seeds=3, over_images=(-0.26, 0.37))), ("b", Estimate(1, 0.5, 2)), ("c", None)]
    table = Table("t", "T", [Column("name"), Column("x")], rows)
    assert format_cell(rows[0][1], table.columns[1]) == "0.06 [0.02, 0.09], images [-0.26, 0.37]"
    head, *fields = table_fields(table)
    assert head == ["name", "x", "x low", "x high", "x low over images", "x high over images"]
    assert fields == [["a", "0.06", "0.02", "0.09", "-0.26", "0.37"], ["b", "1", "0.5", "2", "", ""], ["c", "", "", "", "", ""]]
    assert table_dict(table)["rows"][0][1] == {"value": 0.06, "low": 0.02, "high": 0.09, "over_images": [-0.26, 0.37]}


def test_infinity_in_json_is_a_word() -> None:
    table = Table("t", "T", [Column("x")], [(math.inf,), (Estimate(1.0, 0.0, math.inf),)])
    assert table_dict(table)["rows"] == [["infinite"], [{"value": 1.0, "low": 0.0, "high": "infinite"}]]
