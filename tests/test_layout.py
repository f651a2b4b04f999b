import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
MAX_LINES = 400
# Modules of src without a test file of their own, each with its reason.
UNTESTED: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def setuptools() -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    return settings


def modules() -> list[Path]:
    return [file.relative_to(SRC) for file in sorted(SRC.rglob("*.py")) if file.name != "__init__.py"]


def test_packages_are_the_folders_of_src(setuptools: dict[str, Any]) -> None:
    folders = {f"shopkeeper.{file.parent.name}" for file in SRC.glob("*/__init__.py")}

    assert set(setuptools["packages"]) == {"shopkeeper", "shopkeeper.configs"} | folders


def test_src_is_two_levels_deep() -> None:
    assert [str(module) for module in modules() if len(module.parts) > 2] == []


def test_every_folder_of_modules_is_a_package() -> None:
    assert [str(module) for module in modules() if not (SRC / module).with_name("__init__.py").exists()] == []


def test_package_names_map_to_existing_folders(setuptools: dict[str, Any]) -> None:
    assert setuptools["package-dir"] == {"shopkeeper": "src", "shopkeeper.configs": "configs"}
    assert (ROOT / "configs" / "__init__.py").exists()


def test_every_module_has_a_test_file_of_its_name() -> None:
    missing = {
        str(module) for module in modules() if not (ROOT / "tests" / module.parent / f"test_{module.name}").exists()
    }

    assert missing == UNTESTED


@pytest.mark.parametrize("folder", ["src", "serving", "tests", "benchmarks"])
def test_files_are_read_in_one_sitting(folder: str) -> None:
    lengths = {str(f): len(f.read_text().splitlines()) for f in (ROOT / folder).rglob("*.py")}

    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_type_checkers_find_the_sources_by_import_name() -> None:
    assert (ROOT / ".typings" / "shopkeeper").resolve() == SRC
