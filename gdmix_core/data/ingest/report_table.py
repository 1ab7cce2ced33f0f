"""The validation report as a table to read."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def report_table(report: dict[str, Any]) -> Table:
    """Return rows by split in the title, then every check: how many records break it, and the first of them."""
    splits = ", ".join(
        f"{split['rows']} {name} rows" + (f" ({split['dropped']} records dropped)" if split["dropped"] else "")
        for name, split in report["splits"].items()
    )
    table = Table(title=splits)
    for column in ("check", "rule", "broken", "first"):
        table.add_column(column, justify="right" if column == "broken" else "left")
    for name, check in sorted(report["checks"].items(), key=lambda item: (-item[1]["broken"], item[0])):
        first = check["first"][0] if check["first"] else None
        where = "" if not first else first["file"] if "unit" in check else f"uid {first['uid']} in {first['file']}"
        table.add_row(name, check["rule"], str(check["broken"]), where, style="red" if check["broken"] else None)
    for bag, count in report["duplicate_indices_summed"].items():
        table.add_row(f"{bag}.duplicates", "indices listed once (others are summed)", str(count), "")
    for column in report.get("partition_columns_not_read", []):
        table.add_row(f"{column}.partition", "not counted as broken: folders' key, not read", "", "")
    for coordinate, counts in report.get("external_scores", {}).items():
        table.add_row(
            f"{coordinate}.score.unused", "not counted as broken: scores of other uids", str(counts["unused"]), ""
        )
        if counts["zeros"]:
            table.add_row(f"{coordinate}.score.zero", "rows without a score (missing: zero)", str(counts["zeros"]), "")
    return table
