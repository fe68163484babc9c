"""The one step of the build that pyproject.toml cannot say: recipes and profiles go into the wheel.

They stand at the top of a checkout, where people look for them. In an installed package they lie inside of
it, since nothing may be installed beside a package. An editable installation and a checkout read them where
they stand (`mmgnn_dist/bundled.py`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
BUNDLED = ("launch", "slurm")  # folders whose YAML files are copied


class BuildWithRecipes(build_py):
    """Build the package with its recipes and profiles inside."""

    def run(self) -> None:
        """Copy the modules, then the YAML files of `BUNDLED`."""
        super().run()
        if self.editable_mode:
            return
        for source in (path for folder in BUNDLED for path in sorted((ROOT / folder).rglob("*.yaml"))):
            copy = Path(self.build_lib) / "mmgnn_dist" / source.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


setup(cmdclass={"build_py": BuildWithRecipes})
