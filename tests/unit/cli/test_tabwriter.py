"""Against what Go's text/tabwriter gives for the same input (padding 2, spaces)."""

from shoal.cli.output.tabwriter import align


def test_cells_under_each_other_are_as_wide_as_the_widest() -> None:
    assert align(["Name:\tweb", "Namespace:\tdefault"]) == "Name:       web\nNamespace:  default\n"


def test_a_line_without_the_cell_ends_its_column() -> None:
    assert align(["a\tb", "nothing here", "long name\tc"]) == "a  b\nnothing here\nlong name  c\n"


def test_an_outer_column_goes_on_where_an_inner_one_ends() -> None:
    lines = ["a\tb\tc", "aaaa\tx", "a\tbbbb\tc"]
    assert align(lines) == "a     b  c\naaaa  x\na     bbbb  c\n"


def test_an_empty_cell_keeps_its_place() -> None:
    assert align(["key:\tone", "\ttwo"]) == "key:  one\n      two\n"
