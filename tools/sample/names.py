"""Systematic names: parents x substituents x locants.

Nothing here knows chemistry beyond grammar: names that are wrong, or structures that are too
large, fall out when OPSIN reads them. Each name carries a functional class, by which the
selection is stratified.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from name_parts import (
    ACYLS,
    ALKYLS,
    AROMATICS,
    FUSED,
    LACTONES,
    LENGTHENING,
    MAX_HEAVY,
    RINGS,
    SMALL,
    STEMS,
    SUBSTITUENTS,
    SUFFIXES,
)

SPECIAL = (
    "water",
    "methane",
    "ammonia",
    "hydrogen cyanide",
    "carbon dioxide",
    "formaldehyde",
    "hydrogen peroxide",
    "hydrazine",
    "hydroxylamine",
    "urea",
    "guanidine",
    "methylurea",
    "methyl isocyanate",
    "ethyl isocyanate",
    "dimethyl carbonate",
    "nitromethane",
    "nitroethane",
    "methylhydrazine",
    "acetone oxime",
    "diazomethane",
    "acetaldehyde oxime",
    "ketene",
    "allene",
    "cyclopropene",
    "acetic anhydride",
    "formamide",
    "formic acid",
    "dimethyl peroxide",
    "azidomethane",
    "methyl isocyanide",
    "ethyl isocyanide",
    "cyanamide",
    "cyanogen",
    "carbonyl difluoride",
    "tetrafluoroethene",
    "hexafluoroethane",
    "octafluoropropane",
    "trifluoromethanol",
    "fluoroethyne",
    "N,N-dimethylhydroxylamine",
    "trimethylamine N-oxide",
    "pyridine N-oxide",
    "biuret",
    "acetohydrazide",
    "formohydrazide",
    "semicarbazide",
    "carbonohydrazide",
    "dimethyl ether",
    "glyoxal",
    "(2E)-but-2-ene",
    "(2Z)-but-2-ene",
    "(2E)-pent-2-ene",
    "(2Z)-pent-2-ene",
    "(2E)-but-2-enal",
    "(2E)-but-2-enoic acid",
    "(2Z)-but-2-enedioic acid",
    "(2E)-but-2-enedioic acid",
    "(2E)-hex-2-enal",
    "(2E)-1,2-difluoroethene",
    "(2R)-2-aminopropanoic acid",
    "(2S)-2-hydroxypropanoic acid",
    "isoxazole",
    "diethyl ether",
    "divinyl ether",
    "methyl vinyl ether",
    "acetonitrile",
    "acetamide",
    "nitrosomethane",
    "dimethyl oxalate",
    "propadienone",
    "malononitrile",
    "acetylacetone",
    "ethanimidamide",
    "acetyl fluoride",
)


class Parent(NamedTuple):
    """A name to put prefixes before, its heavy atoms, free locants, functional class and chain ends."""

    name: str
    heavy: int
    locants: tuple[str, ...]
    group: str
    ends: tuple[str, ...] = ()

    def takes(self, at: str, substituent: str) -> bool:
        """Whether `substituent` at locant `at` leaves this the main chain or ring."""
        return at not in self.ends or substituent not in LENGTHENING


def chain_length(name: str) -> str:
    """Number of carbons in the chain a name opens with, as a locant."""
    return str(next(size for size in range(1, len(STEMS)) if name.startswith(STEMS[size])))


def chain_parents() -> Iterator[Parent]:
    """Acyclic parents with one or two characteristic groups, C1 to C9."""
    for size in range(1, MAX_HEAVY + 1):
        stem, free = STEMS[size], tuple(str(i) for i in range(1, size + 1))
        end = range(1, (size + 1) // 2 + 1)
        yield Parent(f"{stem}ane", size, free, "alkane")
        yield Parent(f"{stem}anal", size + 1, free[1:], "aldehyde")
        yield Parent(f"{stem}anoic acid", size + 2, free[1:], "acid")
        yield Parent(f"{stem}anamide", size + 2, (*free[1:], "N", "N,N"), "amide")
        yield Parent(f"{stem}anenitrile", size + 1, free[1:], "nitrile")
        yield Parent(f"{stem}anehydrazide", size + 3, free[1:], "hydrazide")
        for i in end:
            yield Parent(f"{stem}an-{i}-ol", size + 1, free, "alcohol")
            yield Parent(f"{stem}an-{i}-amine", size + 1, (*free, "N", "N,N"), "amine")
            yield Parent(f"{stem}an-{i}-imine", size + 1, (*free, "N"), "imine")
            if i > 1:
                yield Parent(f"{stem}an-{i}-one", size + 1, free, "ketone")
            if size > 1 and i <= size // 2:
                yield Parent(f"{stem}-{i}-ene", size, free, "alkene")
                yield Parent(f"{stem}-{i}-yne", size, free, "alkyne")
            if size > 2:
                yield Parent(f"{stem}-{i + 1}-enal", size + 1, free[1:], "enal")
                yield Parent(f"{stem}-{i + 1}-enenitrile", size + 1, free[1:], "nitrile")
                yield Parent(f"{stem}-{i + 1}-enoic acid", size + 2, free[1:], "acid")
                yield Parent(f"{stem}-{i + 1}-ynoic acid", size + 2, free[1:], "acid")
                yield Parent(f"{stem}-{i + 1}-enamide", size + 2, (*free[1:], "N"), "amide")
                yield Parent(f"{stem}-{i + 1}-en-1-ol", size + 1, free, "enol")
                yield Parent(f"{stem}-{i + 1}-yn-1-ol", size + 1, free, "enol")
                yield Parent(f"{stem}-{i + 1}-en-1-amine", size + 1, (*free, "N"), "amine")
                yield Parent(f"{stem}-{i + 1}-yn-1-amine", size + 1, (*free, "N"), "amine")
                yield Parent(f"{stem}-{i + 2}-en-2-one", size + 1, free, "enone")
                yield Parent(f"{stem}-{i + 2}-yn-2-one", size + 1, free, "enone")
        for i, j in combinations(range(1, size + 1), 2):
            for ending, group in (("diol", "diol"), ("diamine", "diamine"), ("dione", "dione")):
                yield Parent(f"{stem}ane-{i},{j}-{ending}", size + 2, free, group)
            yield Parent(f"{stem}a-{i},{j}-diene", size, free, "diene")
            yield Parent(f"{stem}a-{i},{j}-diyne", size, free, "diyne")
            yield Parent(f"{stem}-{i}-en-{j}-yne", size, free, "enyne")
        yield Parent(f"{stem}anedinitrile", size + 2, free[1:-1], "nitrile")
        yield Parent(f"{stem}anedioic acid", size + 4, free[1:-1], "acid")
        yield Parent(f"{stem}anediamide", size + 4, free[1:-1], "amide")
        yield Parent(f"{stem}anedial", size + 2, free[1:-1], "aldehyde")


def suffixed(name: str, heavy: int, locants: tuple[str, ...], group: str) -> Iterator[Parent]:
    """A ring parent itself and with each principal suffix at each locant."""
    yield Parent(name, heavy, locants, group)
    for ending, (kind, extra) in SUFFIXES.items():
        stem = name[:-1] if name.endswith("e") and ending in ("ol", "amine") else name
        for at in locants:
            yield Parent(f"{stem}-{at}-{ending}", heavy + extra, locants, f"{group} {kind}")


def ring_parents() -> Iterator[Parent]:
    """Carbocycles, heterocycles, fused and bridged ring systems."""
    for size in range(3, MAX_HEAVY):
        stem, free = f"cyclo{STEMS[size]}", tuple(str(i) for i in range(1, size // 2 + 2))
        yield from suffixed(f"{stem}ane", size, free, "cycloalkane")
        yield Parent(f"{stem}anone", size + 1, free[1:], "cycloalkanone")
        yield from suffixed(f"{stem}-1-ene", size, free, "cycloalkene")
        yield from suffixed(f"{stem}a-1,3-diene", size, (*free, "5"), "cyclodiene")
    for table, group in ((RINGS, "heterocycle"), (AROMATICS, "aromatic")):
        for name, (heavy, locants) in table.items():
            yield from suffixed(name, heavy, tuple(locants.split()), group)
    for name, (heavy, locants) in LACTONES.items():
        yield Parent(name, heavy, tuple(locants.split()), "lactone or lactam")
    for name in FUSED:
        yield Parent(name, MAX_HEAVY - 1, ("1", "2", "3", "4", "5", "6"), "fused")
    for a in range(1, 6):
        for b in range(1, a + 1):
            for c in range(b + 1):
                size = a + b + c + 2
                if size > MAX_HEAVY:
                    continue
                body = f"bicyclo[{a}.{b}.{c}]{STEMS[size]}"
                free = tuple(str(i) for i in range(1, size + 1))
                yield from suffixed(f"{body}ane", size, free, "bicyclic")
                for i in range(2, a + 2):
                    yield Parent(f"{body}-{i}-ene", size, free, "bicyclic")
                    yield Parent(f"{body}an-{i}-one", size + 1, free, "bicyclic ketone")
                for i in free:
                    for hetero in ("oxa", "aza"):
                        yield Parent(f"{i}-{hetero}{body}ane", size, free, f"{hetero}bicyclic")
    for a in range(2, 5):
        for b in range(a, 7):
            size = a + b + 1
            if size <= MAX_HEAVY:
                free = tuple(str(i) for i in range(1, size + 1))
                yield from suffixed(f"spiro[{a}.{b}]{STEMS[size]}ane", size, free, "spiro")
                for i in free:
                    for hetero in ("oxa", "aza"):
                        yield Parent(f"{i}-{hetero}spiro[{a}.{b}]{STEMS[size]}ane", size, free, "spiro")


def prefixed(parent: Parent) -> Iterator[str]:
    """`parent` bare, with one substituent, and with two small ones."""
    yield parent.name
    room = MAX_HEAVY - parent.heavy
    # A parent that opens with a locant or indicated hydrogen needs a hyphen before it.
    dash = "-" if parent.name[0].isdigit() or parent.name[1:2] == "H" else ""
    for at in parent.locants:
        count, multiple = (2, "di") if "," in at else (1, "")
        for name, heavy in SUBSTITUENTS.items():
            if heavy * count <= room and not (multiple and name[0] == "(") and parent.takes(at, name):
                yield f"{at}-{multiple}{name}{dash}{parent.name}"
    if room < 2:
        return
    single = [at for at in parent.locants if "," not in at]
    for first, second in combinations(single + single[:1], 2):
        for name in SMALL:
            low, high = sorted((first, second))
            if 2 * SUBSTITUENTS[name] <= room and parent.takes(low, name) and parent.takes(high, name):
                yield f"{low},{high}-di{name}{dash}{parent.name}"
        for one, two in combinations(sorted(SMALL), 2):
            if SUBSTITUENTS[one] + SUBSTITUENTS[two] > room:
                continue
            for x, y in ((first, second), (second, first)):
                if parent.takes(x, one) and parent.takes(y, two):
                    yield f"{x}-{one}-{y}-{two}{dash}{parent.name}"


def systematic() -> Iterator[tuple[str, str]]:
    """(name, functional class); of names of one structure the earliest is the preferred one."""
    for name in SPECIAL:
        yield name, "small and special"
    for alkyl in ALKYLS:
        for acyl in ACYLS:
            yield f"{alkyl} {acyl}", "ester"
        for ring in ("cyclopropane", "cyclobutane", "oxirane-2-", "aziridine-2-", "furan-2-", "azetidine-3-"):
            yield f"{alkyl} {ring}carboxylate", "ester"
    # Every chain parent numbers its carbons 1 to n, so its ends follow from the name's stem.
    chains = (parent._replace(ends=("1", chain_length(parent.name))) for parent in chain_parents())
    for parent in (*chains, *ring_parents()):
        if parent.heavy <= MAX_HEAVY:
            for name in prefixed(parent):
                yield name, parent.group
