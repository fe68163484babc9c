"""Systematic names: parents x substituents x locants.

Nothing here knows chemistry beyond grammar: names that are wrong, or structures that are too
large, fall out when OPSIN reads them. Each name carries a functional class, by which the
selection is stratified.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

MAX_HEAVY = 9
STEMS = ("", "meth", "eth", "prop", "but", "pent", "hex", "hept", "oct", "non")

# Prefix (in brackets where it needs them) -> heavy atoms it adds.
SUBSTITUENTS = {
    "fluoro": 1,
    "methyl": 1,
    "amino": 1,
    "hydroxy": 1,
    "oxo": 1,
    "methoxy": 2,
    "cyano": 2,
    "ethynyl": 2,
    "ethenyl": 2,
    "ethyl": 2,
    "formyl": 2,
    "nitroso": 2,
    "methylidene": 1,
    "imino": 1,
    "(hydroxymethyl)": 2,
    "(aminomethyl)": 2,
    "(fluoromethyl)": 2,
    "(methylamino)": 2,
    "nitro": 3,
    "azido": 3,
    "acetyl": 3,
    "carbamoyl": 3,
    "cyclopropyl": 3,
    "ethoxy": 3,
    "propyl": 3,
    "(propan-2-yl)": 3,
    "(difluoromethyl)": 3,
    "(dimethylamino)": 3,
    "(ethenyloxy)": 3,
    "(methoxymethyl)": 3,
    "(cyanomethyl)": 3,
    "(prop-2-yn-1-yl)": 3,
    "(prop-2-en-1-yl)": 3,
    "(fluoromethoxy)": 3,
    "(trifluoromethyl)": 4,
    "(acetyloxy)": 4,
    "(oxiran-2-yl)": 3,
    "(aziridin-1-yl)": 3,
    "cyclobutyl": 4,
    "butyl": 4,
    "(2-hydroxyethyl)": 3,
    "(formylamino)": 3,
}
SMALL = ("fluoro", "methyl", "amino", "hydroxy", "oxo", "methoxy", "cyano", "ethynyl")

# At either end of a chain these would make the chain itself longer, so the name would be a poor one.
LENGTHENING = (
    "methyl",
    "ethyl",
    "propyl",
    "butyl",
    "methylidene",
    "ethenyl",
    "ethynyl",
    "cyano",
    "formyl",
    "acetyl",
    "carbamoyl",
    "(hydroxymethyl)",
    "(aminomethyl)",
    "(fluoromethyl)",
    "(difluoromethyl)",
    "(propan-2-yl)",
    "(methoxymethyl)",
    "(cyanomethyl)",
    "(prop-2-yn-1-yl)",
    "(prop-2-en-1-yl)",
    "(trifluoromethyl)",
    "(2-hydroxyethyl)",
)

# Parent hydride -> (heavy atoms, locants that may be substituted or bear a suffix).
RINGS = {
    "oxirane": (3, "2 3"),
    "aziridine": (3, "1 2 3"),
    "oxetane": (4, "2 3 4"),
    "azetidine": (4, "1 2 3"),
    "oxolane": (5, "2 3 4 5"),
    "pyrrolidine": (5, "1 2 3 4 5"),
    "oxane": (6, "2 3 4 5 6"),
    "piperidine": (6, "1 2 3 4"),
    "1,4-dioxane": (6, "2 3 5"),
    "1,3-dioxane": (6, "2 4 5"),
    "1,3-dioxolane": (5, "2 4 5"),
    "piperazine": (6, "1 2 3"),
    "morpholine": (6, "2 3 4"),
    "imidazolidine": (5, "1 2 4"),
    "pyrazolidine": (5, "1 3 4"),
    "1,2-oxazolidine": (5, "2 3 4 5"),
    "1,3-oxazolidine": (5, "2 3 4 5"),
    "azepane": (7, "1 2 3 4"),
    "oxepane": (7, "2 3 4"),
    "2,3-dihydrofuran": (5, "2 3 4 5"),
    "2,5-dihydrofuran": (5, "2 3"),
    "3,4-dihydro-2H-pyran": (6, "2 4 5 6"),
    "2,5-dihydro-1H-pyrrole": (5, "1 2 3"),
    "4H-pyran": (6, "2 3 4"),
    "2H-azirine": (3, "2 3"),
    "dioxirane": (3, "3"),
    "oxaziridine": (3, "2 3"),
    "diaziridine": (3, "1 3"),
    "1,2,3,6-tetrahydropyridine": (6, "1 2 4 5"),
    "4,5-dihydro-1,2-oxazole": (5, "3 4 5"),
    "4,5-dihydro-1H-imidazole": (5, "1 2 4"),
    "4,5-dihydro-1,3-oxazole": (5, "2 4 5"),
}
AROMATICS = {
    "benzene": (6, "1 2 3 4"),
    "pyridine": (6, "2 3 4 5 6"),
    "pyrimidine": (6, "2 4 5 6"),
    "pyrazine": (6, "2 3 5 6"),
    "pyridazine": (6, "3 4 5"),
    "1,3,5-triazine": (6, "2 4"),
    "1,2,4-triazine": (6, "3 5 6"),
    "1,2,4,5-tetrazine": (6, "3 6"),
    "furan": (5, "2 3 4 5"),
    "1H-pyrrole": (5, "1 2 3 4 5"),
    "1H-imidazole": (5, "1 2 4 5"),
    "1H-pyrazole": (5, "1 3 4 5"),
    "1,3-oxazole": (5, "2 4 5"),
    "1,2-oxazole": (5, "3 4 5"),
    "1H-1,2,3-triazole": (5, "1 4 5"),
    "1H-1,2,4-triazole": (5, "1 3 5"),
    "1H-tetrazole": (5, "1 5"),
    "1,3,4-oxadiazole": (5, "2 5"),
    "1,2,4-oxadiazole": (5, "3 5"),
    "1,2,5-oxadiazole": (5, "3 4"),
}
FUSED = (
    "1H-indole",
    "1-benzofuran",
    "1H-benzimidazole",
    "1H-indazole",
    "7H-purine",
    "1,3-benzoxazole",
    "1H-indene",
    "2,3-dihydro-1H-indene",
    "1H-pyrrolo[2,3-b]pyridine",
    "furo[2,3-b]pyridine",
    "furo[3,2-c]pyridine",
    "imidazo[1,2-a]pyridine",
    "pyrazolo[1,5-a]pyridine",
    "indolizine",
    "pyrazolo[1,5-a]pyrimidine",
    "1H-benzotriazole",
    "2-benzofuran",
    "2H-isoindole",
    "1,2-benzoxazole",
    "imidazo[1,2-b]pyridazine",
    "1H-pyrrolo[3,2-c]pyridine",
    "cubane",
    "2,1-benzoxazole",
    "pentalene",
    "1H-pyrrolizine",
    "pyrrolo[2,1-b][1,3]oxazole",
    "furo[3,2-b]furan",
    "1,4-dihydropyrrolo[3,2-b]pyrrole",
    "imidazo[2,1-b][1,3]oxazole",
    "bicyclo[4.2.0]octa-1,3,5-triene",
    "1H-imidazo[4,5-b]pyridine",
    "tricyclo[2.2.1.0^{2,6}]heptane",
    "quadricyclane",
    "1-azabicyclo[2.2.2]octane",
    "1,4-diazabicyclo[2.2.2]octane",
    "hexahydro-1H-pyrrolizine",
    "octahydropentalene",
)
LACTONES = {
    "oxetan-2-one": (5, "3 4"),
    "oxolan-2-one": (6, "3 4 5"),
    "oxan-2-one": (7, "3 4 5 6"),
    "furan-2(5H)-one": (6, "3 4 5"),
    "azetidin-2-one": (5, "1 3 4"),
    "pyrrolidin-2-one": (6, "1 3 4 5"),
    "piperidin-2-one": (7, "1 3 4 5 6"),
    "piperidine-2,6-dione": (8, "1 3 4"),
    "oxan-4-one": (7, "2 3"),
    "pyrrolidine-2,5-dione": (7, "1 3"),
    "oxolane-2,5-dione": (7, "3 4"),
    "furan-2,5-dione": (7, "3 4"),
    "1H-pyrrole-2,5-dione": (7, "1 3"),
    "imidazolidin-2-one": (6, "1 4"),
    "1,3-dioxolan-2-one": (6, "4 5"),
    "imidazolidine-2,4-dione": (7, "1 3 5"),
    "1,3-oxazolidin-2-one": (6, "3 4 5"),
    "pyridin-2(1H)-one": (7, "1 3 4 5 6"),
    "pyrimidine-2,4(1H,3H)-dione": (8, "1 3 5 6"),
    "4H-pyran-4-one": (7, "2 3"),
    "1,3-oxazolidine-2,4-dione": (7, "3 5"),
    "oxolan-3-one": (6, "2 4 5"),
    "pyrimidin-4(3H)-one": (7, "2 5 6"),
    "cyclopent-2-en-1-one": (6, "2 3 4 5"),
    "cyclohexa-2,5-diene-1,4-dione": (8, "2"),
    "cyclohex-2-en-1-one": (7, "2 3 4 5 6"),
    "cyclobut-3-ene-1,2-dione": (6, "3"),
    "cyclopropenone": (4, "2"),
    "cyclohexane-1,2-dione": (8, "3 4"),
}
SUFFIXES = {
    "ol": ("alcohol", 1),
    "amine": ("amine", 1),
    "carbonitrile": ("nitrile", 2),
    "carbaldehyde": ("aldehyde", 2),
    "carboxylic acid": ("acid", 3),
    "carboxamide": ("amide", 3),
}
ALKYLS = (
    "methyl",
    "ethyl",
    "propyl",
    "propan-2-yl",
    "butyl",
    "ethenyl",
    "prop-2-en-1-yl",
    "prop-2-yn-1-yl",
    "2-fluoroethyl",
    "cyclopropyl",
    "2-methoxyethyl",
    "tert-butyl",
    "butan-2-yl",
    "2,2,2-trifluoroethyl",
    "cyanomethyl",
    "cyclobutyl",
    "2-aminoethyl",
)
ACYLS = (
    "formate",
    "acetate",
    "propanoate",
    "butanoate",
    "2-methylpropanoate",
    "prop-2-enoate",
    "prop-2-ynoate",
    "fluoroacetate",
    "trifluoroacetate",
    "cyanoacetate",
    "carbamate",
    "2-hydroxypropanoate",
    "glycinate",
    "2-oxopropanoate",
    "cyclopropanecarboxylate",
    "nitrite",
    "nitrate",
    "(2E)-but-2-enoate",
    "pentanoate",
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
