"""tiedlib.lab.figures.tables: a table that can be read out."""

import pytest

from tiedlib.lab.figures.tables import html_table


def test_a_table_for_a_page_names_its_rows_and_columns():
    text = html_table("a < b", ("rate", "gap"), [("1e-3", -0.5), ("SGD-like", "-1.0 ± 0.2")])
    assert "<caption>a &lt; b</caption>" in text and text.count('<th scope="col">') == 2
    assert '<th scope="row">1e-3</th><td>−0.5</td>' in text, (
        "an exponent keeps its hyphen, a negative number has a minus"
    )
    assert '<th scope="row">SGD-like</th><td>−1.0 ± 0.2</td>' in text


def test_a_table_that_no_voice_can_read_is_refused():
    with pytest.raises(ValueError, match=r"rows holds one of 1 cells, .*; heads has 2"):
        html_table("x", ("a", "b"), [("1",)])
    with pytest.raises(ValueError, match="every column needs a name"):
        html_table("x", ("a", " "), [])
