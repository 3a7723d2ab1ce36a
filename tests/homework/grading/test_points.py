"""points.csv: what a teacher writes there survives every run, in whatever form a spreadsheet leaves it."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedlib.homework.grading.points import COLUMNS, HandPoints

RESULT = {
    "file": "ada.ipynb",
    "score": 3,
    "maximum": 4,
    "questions": {"q1": {"points": 1, "maximum": 2}, "q2": {"points": 2, "maximum": 2}},
}
FILE = 'submission,problem,points,comment\nada.ipynb,q9,3.5,"Good, but short"\nada.ipynb,q1,2,\nboole.ipynb,q9,,later\n'


def read(tmp_path, text, coding="utf-8", open_=None):
    path = tmp_path / "points.csv"
    path.write_bytes(text.encode(coding))
    return HandPoints.read(path, {"q9": 5.0} if open_ is None else open_)


def test_without_a_file_there_are_empty_rows_for_what_a_person_grades(tmp_path):
    points = HandPoints.read(tmp_path / "points.csv", {"q9": 5.0})
    points.add(["ada.ipynb", "boole.ipynb"])
    assert points.text() == "submission,problem,points,comment\nada.ipynb,q9,,\nboole.ipynb,q9,,\n"
    found = points.applied(RESULT)
    assert (found["score"], found["maximum"], found["questions"]["q9"]["points"]) == (3, 9, None)


def test_points_by_hand_count_and_take_a_checks_place(tmp_path):
    found = read(tmp_path, FILE).applied(RESULT)
    assert (found["score"], found["maximum"]) == (2 + 2 + 3.5, 9)
    assert found["questions"]["q9"]["comment"] == "Good, but short" and found["questions"]["q1"]["by hand"]
    assert RESULT["score"] == 3 and "q9" not in RESULT["questions"]


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_as_spreadsheets_write_it(tmp_path, coding, separator, ends):
    rows = [COLUMNS, ("ada.ipynb", "q9", "3,5" if separator == ";" else "3.5", "Schön"), ("", "", "", "")]
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator=ends).writerows(rows)
    mark = "\ufeff" if coding == "utf-16-le" else ""
    points = read(tmp_path, mark + out.getvalue(), coding)
    assert points.applied(RESULT)["questions"]["q9"] == {
        "points": 3.5, "maximum": 5.0, "message": "", "cases": [], "comment": "Schön", "by hand": True,
    }  # fmt: skip


def test_every_row_stays_in_its_order_with_what_else_stands_in_it(tmp_path):
    text = "submission,problem,points,comment,tutor\nzoe.zip,q9,1,,Max\ngone.ipynb,q9,4,was here,\n"
    points = read(tmp_path, text)
    points.add(["ada.ipynb", "zoe.zip"])
    assert points.text() == text + "ada.ipynb,q9,,,\n"


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=8)
            .map(str.strip)
            .filter(bool),
            st.sampled_from(["q1", "q9"]),
            st.sampled_from(["", "0", "2.5", "4"]),
            st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8).map(str.strip),
        ),
        unique_by=lambda row: row[:2],
        max_size=6,
    ).filter(lambda rows: not any(row[0].startswith(("'", "=", "+", "-", "@")) for row in rows))
)
def test_a_file_that_is_read_and_written_is_the_same(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("points") / "points.csv"
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([COLUMNS, *rows])
    path.write_text(out.getvalue(), encoding="utf-8")
    assert HandPoints.read(path, {}).text() == out.getvalue()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ada,q9,many,", "line 3: points is 'many'; it must be a number"),
        ("ada,q9,-1,", "line 3: points is '-1'"),
        ("ada,q9,nan,", "line 3: points is 'nan'"),
        (",q9,1,", "line 3: submission is empty"),
        ("ada,,1,", "line 3: problem is empty"),
        ("boole,q9,1,", "line 3: boole and q9 stand in line 2 too"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, words):
    with pytest.raises(ValueError, match=words):
        read(tmp_path, f"submission,problem,points,comment\nboole,q9,1,\n{line}\n")


def test_a_file_without_its_columns_is_named(tmp_path):
    with pytest.raises(ValueError, match="line 1: there is no column 'problem'"):
        read(tmp_path, "submission,points,comment\n")
