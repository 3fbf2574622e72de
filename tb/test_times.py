"""The table of a test run's times."""

from pathlib import Path

import pytest

from scripts.times import table

REPORT = """<testsuites><testsuite>
<testcase classname="tb.test_b" name="second"><properties><property name="cpu" value="2.5"/></properties></testcase>
<testcase classname="tb.test_a" name="first"><properties><property name="cpu" value="1.0"/></properties></testcase>
<testcase classname="tb.test_a" name="skipped"/>
<testcase classname="tb.test_a" name="third"><properties><property name="cpu" value="2.0"/></properties></testcase>
</testsuite></testsuites>"""


def test_files_and_tests_stand_in_order_of_their_seconds(tmp_path: Path) -> None:
    (tmp_path / "test.xml").write_text(REPORT)
    lines = table(tmp_path / "test.xml").splitlines()
    assert lines[2:5] == ["| test_a | 2 | 3.0 |", "| test_b | 1 | 2.5 |", "| all | 3 | 5.5 |"]
    assert lines[-3:] == ["| test_b: second | 2.5 |", "| test_a: third | 2.0 |", "| test_a: first | 1.0 |"]


def test_a_report_without_times_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test.xml").write_text("<testsuites/>")
    with pytest.raises(ValueError, match=r"^the report must be one of make test, not .*test\.xml, which has no times$"):
        table(tmp_path / "test.xml")
