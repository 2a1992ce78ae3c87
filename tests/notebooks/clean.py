"""The form in which a notebook is committed: ``python -m tests.notebooks.clean notebooks/*.ipynb``.

No outputs, no execution counts, no traces of the machine it was run on, an id for every cell, keys in one
order: so that a change of a lesson is a change of its lines, and nothing else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def cleaned(content: str) -> str:
    """The same notebook in the committed form."""
    notebook = json.loads(content)
    cells = [_cleaned_cell(cell) for cell in notebook["cells"]]
    form = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(form, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _cleaned_cell(cell: dict[str, Any]) -> dict[str, Any]:
    source = cell["source"]
    text = source if isinstance(source, str) else "".join(source)
    kept = {
        "cell_type": cell["cell_type"],
        "id": cell.get("id") or uuid4().hex[:8],
        "metadata": {key: value for key, value in cell.get("metadata", {}).items() if key == "tags"},
        "source": text.splitlines(keepends=True),  # as Jupyter itself splits it
    }
    if "attachments" in cell:
        kept["attachments"] = cell["attachments"]
    if cell["cell_type"] == "code":
        kept |= {"outputs": [], "execution_count": None}
    return kept


def main(paths: list[str]) -> int:
    for path in map(Path, paths):
        before = path.read_text(encoding="utf-8")
        after = cleaned(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"cleaned {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
