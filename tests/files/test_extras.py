"""Optional packages: an absent one is answered with the pip command that installs it."""

import re
import sys
from pathlib import Path

import pytest

from files import InputError, optional_imports

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    (file, match[1], match[2])
    for file in ("requirements-extra.txt", "requirements-parts.txt")
    for match in re.finditer(r"^([\w-]+)(==\S+)  # \w", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
]


def test_each_optional_package_has_a_version_and_a_purpose() -> None:
    lines = [
        line
        for file in ("requirements-extra.txt", "requirements-parts.txt")
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert len(lines) == len(PACKAGES) > 0


def hide(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the import of a module and of its submodules fail, even if they are imported already."""
    for name in [module, *(name for name in sys.modules if name.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(("file", "package", "version"), PACKAGES)
def test_absent_package_is_answered_with_its_pip_command(
    file: str, package: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = package.replace("-", "_")
    hide(module, monkeypatch)
    option = "--no-deps " if file == "requirements-parts.txt" else ""
    expected = (
        rf"The package {package} is not installed; it is needed for .+\. Run: pip install {option}{package}{version}$"
    )
    with pytest.raises(InputError, match=expected), optional_imports():
        __import__(module)


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
