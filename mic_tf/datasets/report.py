"""The table that `prepare` ends with."""

from mic_tf.pipeline.index import NoteIndex


def table(index: NoteIndex) -> str:
    """Notes per family and split, as text in columns."""
    counts = index.counts_by_split()
    rows = [["family", *counts]]
    for family in index.families:
        rows.append([family, *(f"{counts[split][family]:,}" for split in counts)])
    totals = (f"{sum(counts[split].values()):,}" for split in counts)
    rows.append(["all", *totals])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
