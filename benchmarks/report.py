"""A line of the benchmark's table, and the table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What was measured; `limit` is what is promised of it, empty where nothing is, and `met` whether it was kept."""

    name: str
    measured: str
    limit: str = ""
    met: bool = True


def exit_code(rows: list[Row]) -> int:
    """1 if any limit is missed."""
    return 0 if all(row.met for row in rows) else 1


HEADINGS = ("what", "measured", "limit", "")


def table(rows: list[Row]) -> str:
    """The rows under each other, every column as wide as it must be."""
    cells = [HEADINGS, *((row.name, row.measured, row.limit, _verdict(row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths).rstrip(), *lines[1:]])


def _verdict(row: Row) -> str:
    if not row.limit:
        return ""
    return "met" if row.met else "MISSED"
