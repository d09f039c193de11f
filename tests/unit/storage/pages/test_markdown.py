from __future__ import annotations

from storage.pages.markdown import escaped, table


def test_text_is_shown_literally_and_stays_on_one_line() -> None:
    assert escaped("a|b\n<i>*c*</i> [d](e) `f` g_h \\") == r"a\|b \<i\>\*c\*\</i\> \[d\](e) \`f\` g\_h \\"
    assert escaped("plain text, 12 %") == "plain text, 12 %"


def test_tables_align_each_column_and_repeat_the_last_alignment() -> None:
    assert list(table(("name", "kind", "count", "share"), "llr", [("a", "b", "1", "2"), ("c", "d", "3", "4")])) == [
        "| name | kind | count | share |",
        "| :-- | :-- | --: | --: |",
        "| a | b | 1 | 2 |",
        "| c | d | 3 | 4 |",
    ]
