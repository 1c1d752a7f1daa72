"""Classes that the user names as FILE.py:CLASS or MODULE:CLASS."""

import pickle
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from files import InputError, PluginFiles, is_reference, load_plugin

ROOT = Path(__file__).parents[2]


class ToyError(InputError):
    """Error of the toy room."""


def load(reference: object) -> type[Any]:
    return load_plugin(str(reference), error_class=ToyError)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder with a file whose class uses another file; the changes of `sys` are undone after the test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    (tmp_path / "toys.py").write_text("from toy_parts import PART\n\nclass Toy:\n    part = PART\n\nsome_toy = Toy()\n")
    (tmp_path / "toy_parts.py").write_text("PART = 'wheel'\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("name", ["a.py:A", "a/b.py:A", "C:\\a.py:A", "sklearn.svm:SVC", "a:_B"])
def test_references_have_a_class(name: str) -> None:
    assert is_reference(name)


@pytest.mark.parametrize("name", ["linear", "a.py", "a.py:", ":A", "C:\\a.py", "a.py:A.b", ""])
def test_other_names_are_no_references(name: str) -> None:
    assert not is_reference(name)


def test_a_file_is_found_in_the_other_unicode_form(folder: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    (folder / f"{nfd}.py").write_text("class Toy:\n    part = 'bell'\n")
    assert load(folder / f"{nfc}.py:Toy").part == "bell"


def test_class_of_a_file_is_loaded_with_the_files_beside_it(folder: Path) -> None:
    assert load(folder / "toys.py:Toy").part == "wheel"


def test_path_may_be_relative_to_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert load("toys.py:Toy") is load(folder / "toys.py:Toy")


def test_file_is_loaded_again_only_if_its_content_changed(folder: Path) -> None:
    before = load(folder / "toys.py:Toy")
    assert load(folder / "toys.py:Toy") is before
    (folder / "toys.py").write_text("class Toy:\n    part = 'wings'\n")
    assert load(folder / "toys.py:Toy").part == "wings"
    assert before.part == "wheel"


def test_file_hides_no_module_of_the_same_name(folder: Path) -> None:
    (folder / "colorsys.py").write_text("class Toy:\n    pass\n")
    code = "import sys; from files import InputError, load_plugin; load_plugin(sys.argv[1], error_class=InputError); "
    command = [sys.executable, "-c", f"{code} import colorsys; print(colorsys.__file__)", f"{folder}/colorsys.py:Toy"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert not done.stdout.startswith(str(folder))


def test_class_of_a_module_is_imported() -> None:
    assert load("pathlib:Path") is Path


def test_objects_of_a_file_reach_a_process_that_has_not_loaded_it(folder: Path) -> None:
    toy = load(folder / "toys.py:Toy")()
    toy.colour = "red"
    (folder / "toy.pkl").write_bytes(pickle.dumps((PluginFiles.loaded(), toy)))
    code = f"import pickle; toy = pickle.load(open({str(folder / 'toy.pkl')!r}, 'rb'))[1]; print(toy.part, toy.colour)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "wheel red\n"


def test_missing_file_is_refused(folder: Path) -> None:
    with pytest.raises(ToyError, match=r"none\.py: this file cannot be read \(No such file or directory\)"):
        load(folder / "none.py:Toy")
    (folder / "a_folder.py").mkdir()
    with pytest.raises(ToyError, match=r"a_folder\.py: this file cannot be read"):
        load(folder / "a_folder.py:Toy")


def test_missing_module_is_refused() -> None:
    with pytest.raises(ToyError, match=r"There is no module 'no_such_room'; give an installed module as MODULE:CLASS"):
        load("no_such_room.toys:Toy")
    with pytest.raises(ToyError, match=r"There is no module 'json\.toys'"):
        load("json.toys:Toy")
    with pytest.raises(ToyError, match=r"'\.json' is not the name of a module"):
        load(".json:Toy")


def test_missing_class_is_refused_with_those_of_the_file(folder: Path) -> None:
    for name in ("Toi", "some_toy"):  # not a class
        with pytest.raises(ToyError, match=rf"toys\.py has no class '{name}'.*Choose one of: Toy\."):
            load(folder / f"toys.py:{name}")
    with pytest.raises(ToyError, match=r"pathlib has no class 'Pth'; perhaps you meant 'Path'"):
        load("pathlib:Pth")
    (folder / "imports.py").write_text("from pathlib import Path\n")
    with pytest.raises(ToyError, match=r"imports\.py has no class 'Toy'. There are none to choose from"):
        load(folder / "imports.py:Toy")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("\nx = 1 / 0\n", "line 2: importing it fails with ZeroDivisionError: division by zero"),
        ("def f():\n    raise KeyError\n\nf()\n", "line 2: importing it fails with KeyError: no message"),
        ("class Toy:\n  def f(:\n", "line 2: importing it fails with SyntaxError: invalid syntax"),
        (
            "import no_such_room\n",
            "line 1: importing it fails with ModuleNotFoundError: No module named 'no_such_room'",
        ),
        ("import sys\nsys.exit(3)\n", "line 2: importing it fails with SystemExit: 3"),
        ("class Toy:\n    pass\nToy.__no__\n", "line 3: importing it fails with AttributeError"),
    ],
)
def test_error_of_the_file_is_described_with_its_line(folder: Path, content: str, words: str) -> None:
    path = folder / "bad.py"
    path.write_text(content)
    with pytest.raises(ToyError) as refusal:
        load(f"{path}:Toy")
    assert str(refusal.value).startswith(f"{path}, {words}")
    path.write_text("class Toy:\n    pass\n")
    assert load(f"{path}:Toy").__name__ == "Toy"


def test_error_within_a_module_is_described_with_its_file_and_line(folder: Path) -> None:
    (folder / "bad_module.py").write_text("\n\nx = 1 / 0\n")
    sys.path.append(str(folder))
    with pytest.raises(
        ToyError, match=r"bad_module: .*bad_module\.py, line 3: importing it fails with ZeroDivisionError"
    ):
        load("bad_module:Toy")
