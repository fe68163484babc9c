"""Other names of structures: common ones, older systematic forms, functional class names.

As in names.py, OPSIN decides what each name stands for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from name_parts import ALKYLS, MAX_HEAVY, STEMS, SUBSTITUENTS

# Common names we vouch for; each becomes the title of whatever OPSIN says it is.
COMMON = (
    "water",
    "methane",
    "ammonia",
    "hydrogen cyanide",
    "carbon dioxide",
    "formaldehyde",
    "acetaldehyde",
    "acetone",
    "toluene",
    "furan",
    "glycine",
    "alanine",
    "serine",
    "valine",
    "threonine",
    "proline",
    "leucine",
    "isoleucine",
    "aspartic acid",
    "asparagine",
    "urea",
    "guanidine",
    "benzene",
    "phenol",
    "aniline",
    "anisole",
    "styrene",
    "benzaldehyde",
    "benzoic acid",
    "benzonitrile",
    "benzamide",
    "o-xylene",
    "m-xylene",
    "p-xylene",
    "mesitylene",
    "cumene",
    "o-cresol",
    "m-cresol",
    "p-cresol",
    "catechol",
    "resorcinol",
    "hydroquinone",
    "pyridine",
    "pyrrole",
    "imidazole",
    "pyrazole",
    "oxazole",
    "isoxazole",
    "pyrimidine",
    "pyrazine",
    "pyridazine",
    "indole",
    "indene",
    "benzofuran",
    "benzimidazole",
    "purine",
    "adenine",
    "cytosine",
    "uracil",
    "thymine",
    "morpholine",
    "piperidine",
    "piperazine",
    "pyrrolidine",
    "tetrahydrofuran",
    "tetrahydropyran",
    "1,4-dioxane",
    "acetic acid",
    "formic acid",
    "propionic acid",
    "butyric acid",
    "isobutyric acid",
    "valeric acid",
    "caproic acid",
    "acrylic acid",
    "methacrylic acid",
    "crotonic acid",
    "maleic acid",
    "fumaric acid",
    "oxalic acid",
    "malonic acid",
    "succinic acid",
    "glutaric acid",
    "lactic acid",
    "pyruvic acid",
    "glycolic acid",
    "glyoxylic acid",
    "malic acid",
    "levulinic acid",
    "acetonitrile",
    "acrylonitrile",
    "propionitrile",
    "acetamide",
    "formamide",
    "acrylamide",
    "acrolein",
    "crotonaldehyde",
    "propionaldehyde",
    "butyraldehyde",
    "valeraldehyde",
    "furfural",
    "furfuryl alcohol",
    "allyl alcohol",
    "propargyl alcohol",
    "ethylene glycol",
    "propylene glycol",
    "glycerol",
    "ethylene oxide",
    "propylene oxide",
    "ethylene carbonate",
    "propylene carbonate",
    "acetylene",
    "ethylene",
    "propylene",
    "isobutylene",
    "isoprene",
    "allene",
    "ketene",
    "isobutane",
    "isopentane",
    "neopentane",
    "ethane",
    "propane",
    "butane",
    "pentane",
    "hexane",
    "heptane",
    "octane",
    "nonane",
    "cyclopropane",
    "cyclobutane",
    "cyclopentane",
    "cyclohexane",
    "cycloheptane",
    "cyclohexene",
    "cyclopentadiene",
    "methanol",
    "ethanol",
    "isopropanol",
    "tert-butanol",
    "isobutanol",
    "methylamine",
    "dimethylamine",
    "trimethylamine",
    "ethylamine",
    "diethylamine",
    "triethylamine",
    "ethylenediamine",
    "ethanolamine",
    "diethanolamine",
    "putrescine",
    "cadaverine",
    "dimethyl ether",
    "diethyl ether",
    "vinyl acetate",
    "ethyl acetate",
    "methyl acetate",
    "methyl formate",
    "ethyl formate",
    "methyl acrylate",
    "methyl methacrylate",
    "acetic anhydride",
    "diacetyl",
    "acetylacetone",
    "mesityl oxide",
    "diacetone alcohol",
    "cyclohexanone",
    "cyclopentanone",
    "succinimide",
    "maleimide",
    "maleic anhydride",
    "succinic anhydride",
    "hydantoin",
    "glutarimide",
    "gamma-butyrolactone",
    "caprolactam",
    "quinuclidine",
    "norbornane",
    "norbornene",
    "cubane",
    "sarcosine",
    "beta-alanine",
    "niacinamide",
    "nicotinic acid",
    "isonicotinic acid",
    "picolinic acid",
    "2-picoline",
    "3-picoline",
    "4-picoline",
    "nitromethane",
    "nitrobenzene",
    "fluorobenzene",
    "phenylacetylene",
    "benzyl alcohol",
    "benzylamine",
    "acetophenone",
    "melamine",
    "cyanuric acid",
    "dimethylformamide",
    "dimethylacetamide",
    "1,4-benzoquinone",
    "methyl ethyl ketone",
    "methyl isobutyl ketone",
    "methyl tert-butyl ether",
    "creatine",
    "biuret",
    "alloxan",
    "barbituric acid",
    "parabanic acid",
    "hydrazine",
    "hydroxylamine",
    "diazomethane",
    "glyoxal",
    "glycolaldehyde",
    "dihydroxyacetone",
    "glyceraldehyde",
    "malononitrile",
    "cyanamide",
    "cyanogen",
    "hexafluoroethane",
    "trifluoroacetic acid",
    "2,2,2-trifluoroethanol",
    "fluoroform",
    "erythritol",
)

# A parent followed by its locant, as in "propan-2-ol", "pent-4-en-1-ol" and "pyridine-3-carboxamide",
# but not the "heptane" of "bicyclo[2.2.1]heptane".
LOCATED = re.compile(
    r"(?<!\d\])((?:cyclo)?(?:meth|eth|prop|but|pent|hex|hept|oct|non)(?:ane?|a)?"
    r"|pyri(?:di|midi|dazi)ne?|pyrazine?|furan|oxirane?|oxetane?|oxolane?|oxane?|aziridine?|azetidine?"
    r"|pyrrolidine?|piperidine?|morpholine?|benzene)-(\d(?:,\d)*)-(?=[a-z])"
)


def alternatives() -> Iterator[str]:
    """Other ways to name common structures; where one agrees it becomes a synonym."""
    yield from COMMON
    for size in range(1, MAX_HEAVY):
        stem = STEMS[size]
        yield from (f"{stem}yl alcohol", f"{stem}ylamine", f"di{stem}yl ether", f"{stem}yl cyanide")
        yield from (f"{stem}yl fluoride", f"di{stem}ylamine", f"{stem}yl methyl ketone", f"nitro{stem}ane")
        for at in range(1, size + 1):
            yield from (f"{at}-{stem}anol", f"{at}-{stem}anone", f"{at}-{stem}anamine", f"{at}-{stem}ene")
            yield from (f"{at}-hydroxy{stem}ane", f"{at}-amino{stem}ane", f"{at}-{stem}yne")
        for other in ("methyl", "ethyl", "vinyl", "phenyl", "cyclopropyl", "isopropyl"):
            for kind in ("ether", "ketone", "amine"):
                yield f"{other} {stem}yl {kind}" if kind != "amine" else f"{other}{stem}ylamine"
        for ring in (f"cyclo{stem}yl", f"iso{stem}yl"):
            yield from (f"{ring} alcohol", f"{ring}amine", f"{ring} cyanide", f"{ring} methyl ketone")
    for prefix in SUBSTITUENTS:
        bare = prefix.strip("()")
        for ring in ("benzene", "cyclopropane", "cyclopentane", "cyclohexane"):
            yield f"{prefix}{ring}"
        for position in "omp":
            yield from (f"{position}-{bare}{ring}" for ring in ("phenol", "toluene", "aniline"))
    for alkyl in ALKYLS:
        for acyl in ("methano", "ethano", "propion", "butyr", "isobutyr", "acryl", "valer"):
            yield f"{alkyl} {acyl}ate"


def older_form(name: str) -> str:
    """`name` with locants before the parents they belong to, as in 2-propanol, where it has such parents."""

    def swapped(match: re.Match[str]) -> str:
        before = name[: match.start()]
        joint = "-" if before and (before[-1].isalpha() or before[-1] in ")]") else ""
        return f"{joint}{match[2]}-{match[1]}"

    return LOCATED.sub(swapped, name)
