"""docs/notebook.ipynb is a valid notebook without outputs, and runs from its first cell to its last."""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def run_cell(code: str, names: dict[str, Any], title: str) -> Any:
    """Run a cell and return the value of its last line if it is an expression, as Jupyter does."""
    tree = ast.parse(code, title)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr) or code.endswith(";"):
        exec(compile(tree, title, "exec"), names)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), title, "exec"), names)
    return eval(compile(ast.Expression(last.value), title, "eval"), names)


def test_file_follows_the_notebook_format() -> None:
    """The keys are those of version 4.5 of the format, https://nbformat.readthedocs.io."""
    assert set(NOTEBOOK) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        keys = {"cell_type", "id", "metadata", "source"}
        assert set(cell) == (keys | {"execution_count", "outputs"} if cell["cell_type"] == "code" else keys)
        assert cell["cell_type"] in {"code", "markdown"}
        assert all(isinstance(line, str) and line.endswith("\n") for line in cell["source"][:-1])


def test_outputs_are_not_stored() -> None:
    for cell in NOTEBOOK["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_all_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "sample").symlink_to(ROOT / "sample")
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.setattr(sys, "path", [*sys.path])
    backend = mpl.get_backend()
    mpl.use("Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        shown = [run_cell(code, names, f"cell {number}") for number, code in enumerate(CODE)]
        [axes] = names["figure"].axes
        assert len(axes.collections) == 12
    finally:
        plt.close("all")
        mpl.use(backend)
    tables = [value._repr_html_() for value in shown if hasattr(value, "_repr_html_")]
    assert len(tables) == 5
    assert max(map(len, tables)) < 10_000
    assert names["prediction"].speakers[0] == "9001"
    assert "60 training, 0 validation and 60 test recordings" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "outputs" / "notebook").iterdir()} >= {
        "features.pt",
        "classifier.pt",
        "own.npz",
    }
