"""Other names of the known targets, as programs and data sets write them.

Names are compared without case, blanks and signs. Names of thermochemistry that are single letters or mean
something else elsewhere (ASE's `free_energy` is an electronic energy) count only beside QM9's `u0`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mmgnn_dist.chem.targets import TARGETS

OTHER_NAMES = {
    "mu": ("dipole_moment", "dipole_norm", "total_dipole"),
    "alpha": ("isotropic_polarizability", "polarizability"),
    "homo": ("e_homo", "homo_energy", "energy_homo", "eps_homo"),
    "lumo": ("e_lumo", "lumo_energy", "energy_lumo", "eps_lumo"),
    "gap": ("homo_lumo_gap", "homolumogap", "hl_gap", "energy_gap", "e_gap"),
    "r2": ("electronic_spatial_extent",),
    "zpve": ("zpe", "zero_point_energy", "zero_point_vibrational_energy"),
    "u0": ("energy_u0", "internal_energy_0k"),
    "u298": ("energy_u298", "internal_energy_298k"),
    "h298": ("enthalpy_h298", "enthalpy_298k"),
    "g298": ("free_energy_g298", "gibbs_free_energy_298k"),
    "cv": ("heat_capacity", "heat_capacity_cv"),
    "energy": (
        *("total_energy", "ref_energy", "dft_energy", "scf_energy", "electronic_energy", "potential_energy"),
        *("energy_ref", "energy_dft", "etot", "e_tot", "energy_total"),
    ),
}
BESIDE_U0 = {
    "u298": ("u", "energy_u", "internal_energy"),
    "h298": ("h", "enthalpy", "enthalpy_h"),
    "g298": ("g", "free_energy", "free_energy_g"),
}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


_ANYWHERE = {_plain(other): name for name in TARGETS for other in (name, *OTHER_NAMES.get(name, ()))}
_BESIDE_U0 = {_plain(other): name for name, others in BESIDE_U0.items() for other in others}


def known_name(name: str, columns: Iterable[str] = ()) -> str | None:
    """Return the known target that a name means, None if it means none.

    Args:
        name: name of a column or target.
        columns: the columns of the same file.
    """
    plain = _plain(name)
    if plain in _ANYWHERE:
        return _ANYWHERE[plain]
    if plain in _BESIDE_U0 and any(_ANYWHERE.get(_plain(column)) == "u0" for column in columns):
        return _BESIDE_U0[plain]
    return None
