"""What `pip install -e .` leaves of a package: its metadata, made by setuptools from its pyproject.toml.

The package itself stays where it is, so its folder has to be on PYTHONPATH like that of the metadata.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Write the metadata of the package in the working directory into the folder that is given."""
    from setuptools.build_meta import prepare_metadata_for_build_wheel

    folder = sys.argv[1]
    sys.argv[1:] = []
    prepare_metadata_for_build_wheel(folder)
    return 0
