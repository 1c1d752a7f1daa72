"""Absent packages: the error messages say what installs them, or which environment to activate."""

import os
import re
import sys
from pathlib import Path

import pytest

from files import InputError, missing_requirement, optional_imports, require

ROOT = Path(__file__).resolve().parents[2]
FILES = ("requirements-extra.txt", "requirements-training.txt", "requirements-parts.txt")
PACKAGES = [
    (file, match[1], match[2])
    for file in FILES
    for match in re.finditer(r"^([\w-]+)(==\S+)  # \w", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
]


def test_each_optional_package_has_a_version_and_a_purpose() -> None:
    lines = [
        line
        for file in FILES
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert len(lines) == len(PACKAGES) > 0


def test_packages_in_several_lists_have_one_version() -> None:
    versions = {package: version for _, package, version in PACKAGES}
    assert [(file, package) for file, package, version in PACKAGES if versions[package] != version] == []


def hide(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the import of a module and of its submodules fail, even if they are imported already."""
    for name in [module, *(name for name in sys.modules if name.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(("file", "package", "version"), PACKAGES)
def test_absent_package_is_answered_with_its_pip_command(
    file: str, package: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = {"webrtcvad-wheels": "webrtcvad"}.get(package, package.replace("-", "_"))
    hide(module, monkeypatch)
    command = {
        "requirements-extra.txt": f"{package}{version}",
        "requirements-training.txt": r"-r \S*requirements-training\.txt",
        "requirements-parts.txt": f"--no-deps {package}{version}",
    }[file]
    if package == "torchvision":  # saved networks need it without the rest of training
        command = f"{package}{version}"
    expected = rf"The package {package} is not installed; it is needed for .+\. Run: pip install {command}$"
    with pytest.raises(InputError, match=expected), optional_imports():
        __import__(module)


def test_absent_packages_of_a_list_are_answered_with_its_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    require("requirements-extra.txt", "this test")
    hide("librosa", monkeypatch)
    with pytest.raises(InputError, match=r"^The package librosa is not installed, which this test needs\. Run: pip "):
        require("requirements-extra.txt", "this test")
    hide("h5py", monkeypatch)
    with pytest.raises(InputError, match=r"packages h5py, librosa are not .* install -r \S*requirements-extra\.txt$"):
        require("requirements-extra.txt", "this test")


def test_errors_of_other_modules_are_raised_as_they_are() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), optional_imports():
        __import__("no_such_module")


@pytest.mark.parametrize("module", ["laion_clap", "torchlibrosa", "h5py"])
def test_reference_of_the_clap_tower_says_what_to_install(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import laion_reference

    laion_reference._htsat_module.cache_clear()
    for name in [name for name in sys.modules if name.startswith(laion_reference.PRIVATE_NAME)]:
        monkeypatch.delitem(sys.modules, name)
    hide(module, monkeypatch)
    with pytest.raises(InputError, match=rf"{module.replace('_', '-')} is not installed"):
        laion_reference.ReferenceClap(16, depths=(1, 1, 1, 1), heads=(1, 1, 1, 1))
    laion_reference._htsat_module.cache_clear()


def test_each_requirement_is_known_by_the_name_of_its_package() -> None:
    listed = re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    modules = {"scikit-learn": "sklearn", "PyYAML": "yaml"}
    for package in listed:
        message = missing_requirement(modules.get(package, package.replace("-", "_")) + ".part")
        assert message is not None
        assert message.startswith(f"The package {package} is not installed")


def test_an_environment_that_exists_is_to_be_activated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "Scripts" if sys.platform == "win32" else "bin"
    activate = tmp_path / "the clone" / ".venv" / folder / "activate"
    environment = activate.parents[1]
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert "Make an environment: " in str(missing_requirement("tyro", environment))
    activate.parent.mkdir(parents=True)
    activate.touch()
    assert str(missing_requirement("tyro", environment)).endswith(f"'{activate}'")
    monkeypatch.chdir(tmp_path / "the clone")
    assert str(missing_requirement("tyro", environment)).endswith(f" .venv/{folder}/activate".replace("/", os.sep))
    monkeypatch.setattr(sys, "prefix", str(environment))  # it is active, and incomplete
    assert "Install the requirements: pip install -r " in str(missing_requirement("tyro", environment))


@pytest.mark.parametrize("module", ["", "corpora", "corpora.no_such_file", "command_line"])
def test_absent_modules_of_this_project_are_errors_of_this_project(module: str) -> None:
    assert missing_requirement(module) is None
