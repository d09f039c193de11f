from __future__ import annotations

from storage.pages.markdown import escaped, table


def test_text_is_shown_literally_and_stays_on_one_line() -> None:
    assert escaped("a|b\n<i>*c*</i> [d](e) `f` g_h \\") == r"a\|b \<i\>\*c\*\</i\> \[d\](e) \`f\` g\_h \\"
    assert escaped("plain text, 12 %") == "plain text, 12 %"


def test_tables_align_numbers_right() -> None:
    assert list(table(("name", "kind", "count"), [("a", "b", "1"), ("c", "d", "2")], num_text_columns=2)) == [
        "| name | kind | count |",
        "| :-- | :-- | --: |",
        "| a | b | 1 |",
        "| c | d | 2 |",
    ]
