"""Units: today's spellings by a table, every other unit by pint; conversion to a canonical unit.

The table holds the common spellings of the known targets with factors from CODATA 2018 (the calorie is the
thermochemical one), so that they are the same bits whatever version of pint is installed. pint reads all the
others; Hartree and Bohr are set to the same constants there.
"""

from __future__ import annotations

import re
import unicodedata
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple

from mmgnn_dist.errors import UserError, nearest, need

HARTREE_EV = 27.211386245988
BOHR_ANGSTROM = 0.529177210903
AVOGADRO = 6.02214076e23
EV_JOULE = 1.602176634e-19
CALORIE_JOULE = 4.184
EV_KJ_MOL = EV_JOULE * AVOGADRO / 1000
DEBYE_EA0 = 2.541746473  # one atomic unit of dipole moment in D
DEBYE_EANGSTROM = DEBYE_EA0 / BOHR_ANGSTROM

# dimension -> {unit: factor to the first unit of the dimension, which is the canonical one}
DIMENSIONS: dict[str, dict[str, float]] = {
    "energy": {
        "eV": 1.0,
        "meV": 1e-3,
        "Hartree": HARTREE_EV,
        "Rydberg": HARTREE_EV / 2,
        "kJ/mol": 1 / EV_KJ_MOL,
        "kcal/mol": CALORIE_JOULE / EV_KJ_MOL,
    },
    "dipole": {"D": 1.0, "e*a0": DEBYE_EA0, "e*Å": DEBYE_EANGSTROM},
    "volume": {"a0^3": 1.0, "Å^3": BOHR_ANGSTROM**-3},
    "area": {"a0^2": 1.0, "Å^2": BOHR_ANGSTROM**-2},
    "heat capacity": {
        "cal/mol/K": 1.0,
        "J/mol/K": 1 / CALORIE_JOULE,
        "kcal/mol/K": 1000.0,
        "kJ/mol/K": 1000 / CALORIE_JOULE,
        "eV/K": EV_KJ_MOL * 1000 / CALORIE_JOULE,
    },
    "none": {"1": 1.0},
}

# Other ways of writing a unit, in lower case; "a.u." depends on the target's dimension and is below.
ALIASES = {
    "ha": "Hartree",
    "eh": "Hartree",
    "hartrees": "Hartree",
    "ry": "Rydberg",
    "debye": "D",
    "e*bohr": "e*a0",
    "ea0": "e*a0",
    "e*angstrom": "e*Å",
    "e*a": "e*Å",
    "eå": "e*Å",
    "eangstrom": "e*Å",
    "bohr^3": "a0^3",
    "bohr3": "a0^3",
    "bohr**3": "a0^3",
    "a0**3": "a0^3",
    "a0³": "a0^3",
    "angstrom^3": "Å^3",
    "angstrom**3": "Å^3",
    "a^3": "Å^3",
    "ang^3": "Å^3",
    "å³": "Å^3",
    "bohr^2": "a0^2",
    "bohr2": "a0^2",
    "bohr**2": "a0^2",
    "a0**2": "a0^2",
    "a0²": "a0^2",
    "angstrom^2": "Å^2",
    "angstrom**2": "Å^2",
    "a^2": "Å^2",
    "ang^2": "Å^2",
    "å²": "Å^2",
    "cal/(mol*k)": "cal/mol/K",
    "cal/(mol k)": "cal/mol/K",
    "j/(mol*k)": "J/mol/K",
    "j/(mol k)": "J/mol/K",
    "dimensionless": "1",
    "none": "1",
}
ATOMIC_UNITS = {"energy": "Hartree", "dipole": "e*a0", "volume": "a0^3", "area": "a0^2"}
CASED = {"mev": "meV"}  # the case changes the meaning of this prefix; mega is not accepted

# words that people write and pint does not know, or takes for something else (Ha: hectare-year)
WORDS = {
    "ha": "hartree",
    "eh": "hartree",
    "hartrees": "hartree",
    "meh": "millihartree",
    "mha": "millihartree",
    "ry": "rydberg_energy",
    "rydberg": "rydberg_energy",
    "a0": "bohr",
    "ang": "angstrom",
    "å": "angstrom",
    "molecule": "particle",
    "molecules": "particle",
    "atoms": "atom",
    "mole": "mol",
    "ev": "eV",
    "kj": "kJ",
    "kcal": "kcal",
}
COMMON = (
    *("hartree", "rydberg", "debye", "bohr", "angstrom", "kcal", "kelvin", "joule", "pascal", "dalton"),
    *("molar", "volt", "siemens", "celsius", "electronvolt", "particle", "newton", "gram"),
)
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
NAME = re.compile(r"[^\W\d]\w*")
EXPONENT = re.compile(r"(?<=[^\W\d_])(?<!\ba)(-?\d+)(?![\w.])")  # mol-1, m3; but not a0
LIKENESS = 0.8  # of an unknown word to a common unit from which on it is taken for a slip


class Unit(NamedTuple):
    """A unit as it is stored: its spelling, its dimension in `DIMENSIONS` or "", whether it is per atom."""

    spelled: str
    dimension: str
    per_atom: bool


def table_unit(name: str, unit: str, wanted: str | None) -> tuple[str, str] | None:
    """Return (dimension, canonical spelling) of a unit in the table; None for any other.

    Args:
        name: name of the target, for the message.
        unit: the unit as the user wrote it.
        wanted: the target's dimension; None for a target that is not in the table.

    Raises:
        UserError: atomic units of an unknown dimension.
    """
    text = unit.strip()
    lowered = unicodedata.normalize("NFC", text).lower().replace("·", "*")  # Å has two code points
    if lowered in ("a.u.", "au", "atomic units"):
        if wanted not in ATOMIC_UNITS:
            raise UserError(f"unit '{unit}' of {name} is ambiguous: name it, for example Hartree")
        return wanted, ATOMIC_UNITS[wanted]
    for dimension, units in DIMENSIONS.items():
        folded = {spelled.lower(): spelled for spelled in units}
        spelled = folded.get(lowered) or ALIASES.get(lowered, "")
        if lowered in CASED and text != CASED[lowered]:
            spelled = ""
        if spelled in units:
            return dimension, spelled
    return None


def known_factor(name: str, unit: str, dimension: str) -> float:
    """Return the factor of a unit to the canonical unit of a dimension.

    Args:
        name: name of the target, for the message.
        unit: the unit as the user wrote it.
        dimension: a key of `DIMENSIONS`.

    Raises:
        UserError: an unknown unit, one of another dimension, or a value per atom.
    """
    found = table_unit(name, unit, dimension)
    if found and found[0] == dimension:
        return DIMENSIONS[dimension][found[1]]
    quantity = None if found or unit.strip().lower() in CASED else _parsed(unit)
    if quantity is not None:
        if quantity.dimensionality.get("[atom]"):
            raise UserError(per_atom_cure(name, unit))
        factor = _converted(quantity, dimension)
        if factor is not None:
            return factor
    allowed = list(DIMENSIONS[dimension])
    raise UserError(
        f"unit '{unit}' does not fit {name}{nearest(unit.strip(), allowed)}: use one of "
        f"{', '.join(allowed)}, or another unit of {dimension}"
    )


def own_unit(name: str, unit: str) -> Unit:
    """Return the unit of a target that is not in the table, as its user gave it.

    A unit in double quotes is kept as it is. A unit that pint does not know is kept too, unless one of its
    words is nearly a common unit.

    Raises:
        UserError: an empty or ambiguous unit, or a likely slip.
    """
    text = unit.strip()
    if len(text) > 2 and text[0] == text[-1] == '"':
        return Unit(text[1:-1].strip(), "", False)
    if not text or any(not letter.isprintable() for letter in text):
        raise UserError(f"unit '{unit}' of {name} is empty: give one, 1 for a number without unit")
    found = table_unit(name, text, None)
    if found:
        return Unit(found[1], found[0], False)
    quantity = _parsed(text)
    if quantity is not None:
        return Unit(text, "", bool(quantity.dimensionality.get("[atom]")))
    for word in NAME.findall(text):
        close = get_close_matches(word.lower(), COMMON, 1, LIKENESS)
        if len(word) > 3 and close and _token(word) not in _registry():
            raise UserError(
                f"unit '{unit}' of {name} is unknown (did you mean '{close[0]}'?): correct it, or put it "
                f"into double quotes to keep it as it is: data.targets.{name}.unit='\"{text}\"'"
            )
    return Unit(text, "", False)


def per_atom_cure(name: str, unit: str) -> str:
    """Return the message that refuses a value per atom for a target that is not."""
    whole = re.sub(r"\s*(/|per)\s*atoms?\b", "", unit).strip()
    return (
        f"{name} in {unit} is a value per atom, and {name} is one of the whole molecule: multiply the column "
        f"by the number of atoms and give {whole}, or declare a target of another name with kind: intensive"
    )


def same_unit(name: str, unit: str, other: str) -> bool:
    """Whether two spellings mean one unit; `name` is the target, for messages."""
    first, second = unit.strip(), other.strip()
    if first.lower() == second.lower():
        return True
    try:
        found, wanted = table_unit(name, first, None), table_unit(name, second, None)
    except UserError:
        return False
    if found or wanted:
        return found == wanted
    one, two = _parsed(first), _parsed(second)
    return bool(one is not None and two is not None and one == two)


def converted_value(name: str, value: float, unit: str, to: str, dimension: str) -> float | None:
    """Return a value in another unit, None if its unit is unknown or of another dimension.

    Args:
        name: name of the target, for messages.
        value: the value.
        unit: its unit, as it stands behind the value.
        to: the unit to convert to, in the spelling of a `Unit`.
        dimension: dimension of `to`, "" for one that is not in `DIMENSIONS`.
    """
    if "".join(unit.split()).lower() == "".join(to.split()).lower() and unit.lower() not in CASED:
        return value
    if dimension:
        try:
            return value * known_factor(name, unit, dimension) / DIMENSIONS[dimension][to]
        except UserError:
            return None
    given, wanted = _parsed(unit), _parsed(to)
    if given is None or wanted is None or unit.strip().lower() in CASED:
        return None
    try:
        # a product would shift a temperature in °C twice
        return float(
            _registry().Quantity(value * given.magnitude, given.units).to(wanted.units).magnitude
        ) / (float(wanted.magnitude))
    except Exception:  # an offset unit raises another error than a wrong dimension
        return None


@cache
def _registry() -> Any:
    try:
        import pint
    except ImportError:
        raise need("pint", "data") from None
    registry: Any = pint.UnitRegistry(on_redefinition="ignore")
    registry.define(f"hartree = {HARTREE_EV!r} * electron_volt = E_h = hartree_energy")
    registry.define(f"bohr = {BOHR_ANGSTROM!r} * angstrom = a_0 = a0 = bohr_radius")
    registry.define("rydberg_energy = 0.5 * hartree")
    registry.define("atom = [atom]")
    return registry


def _token(word: str) -> str:
    """Return the name that pint knows for a word, or the word itself."""
    mapped = WORDS.get(word.lower())
    if mapped:
        return mapped
    return word if word in _registry() or word.lower() not in _registry() else word.lower()


def _parsed(unit: str) -> Any:
    """Return a unit as a quantity of pint, None if it is not one."""
    text = unicodedata.normalize("NFC", unit).strip()
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda found: "^" + found[0].translate(SUPERSCRIPTS), text)
    text = re.sub(r"[·×⋅]", "*", text)
    text = EXPONENT.sub(r"^\1", NAME.sub(lambda found: _word(found[0]), text))
    registry = _registry()
    try:
        return registry.Quantity(registry.parse_expression(text))
    except Exception:  # pint raises errors of many kinds, also those of Python's tokenizer
        return None


def _word(word: str) -> str:
    """Return a word of a unit as pint reads it; a digit at its end is an exponent."""
    if word.lower() in WORDS:
        return _token(word)
    match = re.fullmatch(r"([^\W\d]+)(\d)", word)
    return f"{_token(match[1])}^{match[2]}" if match and word not in _registry() else _token(word)


def _converted(quantity: Any, dimension: str) -> float | None:
    """Return the factor of a quantity to the canonical unit, None if it is of another dimension."""
    registry = _registry()
    mole = registry.avogadro_constant
    forms: dict[str, list[tuple[str, Any]]] = {
        "energy": [
            ("eV", 1),
            ("eV", 1 / mole),  # an energy per mole
            ("eV", registry.planck_constant * registry.speed_of_light),  # a wavenumber
            ("eV", registry.planck_constant),  # a frequency
        ],
        "dipole": [("debye", 1)],
        "volume": [("bohr^3", 1), ("bohr^3", 1 / (4 * 3.141592653589793 * registry.vacuum_permittivity))],
        "area": [("bohr^2", 1)],
        "heat capacity": [("cal/mol/K", 1), ("cal/mol/K", mole)],
        "none": [("dimensionless", 1)],
    }
    for unit, factor in forms[dimension]:
        try:
            return float((quantity * factor).to(unit).magnitude)
        except Exception:  # an offset unit raises another error than a wrong dimension
            continue
    return None
