"""Make molecules.parquet: names to structures, GFN2-xTB geometries and labels, text fields.

    python make_sample.py --out molecules.parquet [--names DIR] [--limit N] [--workers N] [--seed 0]

An interrupted run continues from its work directory. README.md is the data card.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import names
import other_names
import pyarrow.parquet as pq
import records
import xtb
from py2opsin import py2opsin
from rdkit import Chem, RDLogger

ELEMENTS = {"C", "N", "O", "F"}
CHUNK = 5000  # names for one start of OPSIN
SHORTEST, SAMPLED = 60, 180  # names tried per functional class
FIRST_FILE = 300  # labelled molecules after which a first file is written
NICENESS = 15

Named = tuple[str, str, str, str | None]  # name, origin, functional class, InChIKey block it must give


def read_opsin(texts: list[str]) -> list[str]:
    """SMILES of each name, '' where OPSIN cannot read it."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # One warning per unreadable name; they are counted instead.
        warnings.simplefilter("ignore")
        for start in range(0, len(texts), CHUNK):
            part = texts[start : start + CHUNK]
            found += py2opsin(part, output_format="SMILES", tmp_fpath=str(Path(folder) / "names.txt"))
    return found


def usable(mol: Chem.Mol | None) -> bool:
    """Neutral closed-shell single fragment of at most nine heavy atoms among C N O F, no isotopes."""
    if mol is None or not 1 <= mol.GetNumHeavyAtoms() <= names.MAX_HEAVY or len(Chem.GetMolFrags(mol)) > 1:
        return False
    for atom in mol.GetAtoms():
        if atom.GetSymbol() not in ELEMENTS or atom.GetIsotope() or atom.GetNumRadicalElectrons():
            return False
        # Nitro, azide, N-oxide and the like pass; salts of a molecule with itself do not.
        if atom.GetFormalCharge() and not any(
            atom.GetFormalCharge() * other.GetFormalCharge() < 0 for other in atom.GetNeighbors()
        ):
            return False
    return Chem.GetFormalCharge(mol) == 0


def listed_names(folder: Path, tally: Counter[str]) -> Iterator[tuple[Named, list[str]]]:
    """Names with their listed SMILES' InChIKey block, and further synonyms, from parquet files."""
    for path in sorted(folder.glob("*.parquet")):
        origin = path.stem.rsplit("_", 1)[-1]
        for row in pq.read_table(path).to_pylist():
            mol = Chem.MolFromSmiles(row["smiles"] or "")
            if not usable(mol):
                tally["listed: structure outside the rules"] += 1
                continue
            block = Chem.MolToInchiKey(mol).split("-")[0]
            forms = [row.get(key) for key in ("iupac_name", "expected_in_test", "iupac_pin")]
            forms = list(dict.fromkeys(text.strip() for text in forms if text))
            if not forms:
                tally["listed: no name"] += 1
            synonyms = json.loads(row.get("synonyms") or "[]")
            for form in forms:
                yield (form, origin, f"listed in {origin}", block), synonyms


def built_names(seed: int) -> Iterator[Named]:
    """Systematic names, in each functional class the shortest and a seeded sample of the others."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, group in names.systematic():
        groups[group].append(name)
    for group, listing in groups.items():
        members = sorted(dict.fromkeys(listing), key=len)
        rest = members[SHORTEST:]
        drawn = set(random.Random(f"{seed}:{group}").sample(rest, min(SAMPLED, len(rest))))
        drawn.update(members if group in ("ester", "small and special") else members[:SHORTEST])
        for name in members:
            if name in drawn:
                yield name, records.BUILDER, group, None


def collect(folder: Path | None, seed: int, tally: Counter[str]) -> dict[str, records.Candidate]:
    """Candidates by InChIKey; of several names of a structure the first is kept, others are synonyms."""
    listed = list(listed_names(folder, tally)) if folder else []
    extra: dict[str, list[str]] = defaultdict(list)
    for named, synonyms in listed:
        extra[named[0]] += synonyms
    queue: list[Named] = [named for named, _ in listed]
    queue += built_names(seed)
    queue += [(name, records.BUILDER, "", None) for name in other_names.alternatives()]
    titles = set(other_names.COMMON)
    by_block: dict[str, records.Candidate] = {}
    for (name, origin, group, block), smiles in zip(queue, read_opsin([n[0] for n in queue]), strict=True):
        kind = "listed" if block else "built"
        mol = Chem.MolFromSmiles(smiles) if smiles else None
        if not usable(mol):
            tally[f"{kind}: {'structure outside the rules' if mol else 'name not read by OPSIN'}"] += 1
            continue
        key = Chem.MolToInchiKey(mol)
        if block and not key.startswith(block):
            tally["listed: name and SMILES differ"] += 1
            continue
        canonical = Chem.MolToSmiles(mol)
        known = by_block.get(key.split("-")[0])
        if known is None:
            known = records.Candidate(key, canonical, name, origin, group)
            by_block[key.split("-")[0]] = known
            tally[f"{kind}: new structure"] += 1
        elif known.smiles != canonical:
            tally[f"{kind}: stereoisomer or tautomer of a known structure"] += 1
            continue
        else:
            tally[f"{kind}: further name of a known structure"] += 1
        if name in titles and not group and known.title is None:
            known.title = name
        # A second systematic name is mostly a poorly numbered one; listed and alternative ones are in use.
        if block or not group:
            for other in (name, *extra[name]):
                known.synonyms.setdefault(other, origin)
    return {candidate.inchikey: candidate for candidate in by_block.values()}


def add_older_forms(candidates: list[records.Candidate]) -> None:
    """Add the older form of each name to its synonyms where OPSIN reads both alike."""
    pairs = [(candidate, other_names.older_form(candidate.name)) for candidate in candidates]
    pairs = [(candidate, form) for candidate, form in pairs if form != candidate.name]
    for (candidate, form), smiles in zip(pairs, read_opsin([form for _, form in pairs]), strict=True):
        if smiles and Chem.CanonSmiles(smiles) == candidate.smiles:
            candidate.synonyms.setdefault(form, records.BUILDER)


def select(candidates: Iterable[records.Candidate], limit: int, seed: int) -> list[records.Candidate]:
    """All listed molecules, then built ones in turn from each functional class, shuffled at the end."""
    rng = random.Random(seed)
    groups: dict[str, list[records.Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.group].append(candidate)
    chosen: list[records.Candidate] = []
    for group in [name for name in groups if name.startswith("listed")]:
        chosen += groups.pop(group)
    # Common names stand for molecules that readers know, so they come before the draw.
    for group, members in groups.items():
        chosen += [member for member in members if member.title]
        groups[group] = [member for member in members if not member.title]
        rng.shuffle(groups[group])
    while len(chosen) < limit and any(groups.values()):
        chosen += [members.pop() for members in groups.values() if members]
    # Cut first, so that only the last draw is shortened; shuffled, an unfinished run is a fair sample.
    chosen = chosen[:limit]
    rng.shuffle(chosen)
    return chosen


def work(task: tuple[str, str, int]) -> dict[str, object]:
    """Label one molecule; a failure comes back as its reason."""
    inchikey, smiles, seed = task
    try:
        return {"inchikey": inchikey, "seed": seed, **xtb.label(smiles, seed)}
    except xtb.Dropped as reason:
        return {"inchikey": inchikey, "seed": seed, "dropped": str(reason)}


def quiet() -> None:
    """Lower a worker's priority and silence RDKit, whose complaints are counted as reasons."""
    os.nice(NICENESS)
    RDLogger.DisableLog("rdApp.*")


def label_all(
    chosen: list[records.Candidate], done: dict[str, dict], journal: Path, workers: int, salt: int
) -> Iterator[int]:
    """Label what `done` lacks, into it and `journal`; yields the number done after each molecule."""
    tasks = [(c.inchikey, c.smiles, c.seed(salt)) for c in chosen if c.inchikey not in done]
    # Threads only slow down molecules this small; spawned workers read these before they import xtb.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, quiet) as pool, journal.open("a") as stream:
        for result in pool.imap_unordered(work, tasks):
            print(json.dumps(result), file=stream, flush=True)
            done[result["inchikey"]] = result
            yield len(done)


def resume(journal: Path, chosen: list[records.Candidate], salt: int) -> dict[str, dict]:
    """Results of an earlier run that still belong to this selection and seed."""
    seeds = {candidate.inchikey: candidate.seed(salt) for candidate in chosen}
    lines = journal.read_text().splitlines(keepends=True) if journal.exists() else []
    if lines and not lines[-1].endswith("\n"):
        # It was being written when the run stopped; the next one must not be glued to it.
        lines.pop()
        journal.write_text("".join(lines))
    rows = [json.loads(line) for line in lines]
    return {row["inchikey"]: row for row in rows if seeds.get(row["inchikey"]) == row["seed"]}


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="parquet file to write")
    parser.add_argument("--names", type=Path, help="folder of parquet files with columns smiles, iupac_name")
    parser.add_argument("--limit", type=int, default=3500, help="molecules to select for labelling")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("sample_work"), help="folder for unfinished work")
    return parser.parse_args()


def main() -> None:
    """Names to structures, structures to labels, labels to the table."""
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    journal = args.work / "labels.jsonl"
    RDLogger.DisableLog("rdApp.*")
    began = time.monotonic()
    tally: Counter[str] = Counter()
    candidates = collect(args.names, args.seed, tally)
    chosen = select(candidates.values(), args.limit, args.seed)
    add_older_forms(chosen)
    took = time.monotonic() - began
    print(f"names read in {took:.0f} s; {len(candidates)} structures, {len(chosen)} selected", flush=True)
    done = resume(journal, chosen, args.seed)
    began, before = time.monotonic(), len(done)
    for count in label_all(chosen, done, journal, args.workers, args.seed):
        if count % 50 == 0 or count == len(chosen):
            rate = (count - before) / (time.monotonic() - began)
            left = (len(chosen) - count) / rate / 60
            print(f"{count}/{len(chosen)} at {rate:.2f}/s, {left:.0f} min left", file=sys.stderr, flush=True)
        if count == FIRST_FILE:
            records.write(args.out, candidates, [r for r in done.values() if "dropped" not in r], args.seed)
    labelled = [row for row in done.values() if "dropped" not in row]
    kept = records.write(args.out, candidates, labelled, args.seed)
    reasons = Counter(row["dropped"] for row in done.values() if "dropped" in row)
    for what, count in sorted(tally.items()):
        print(f"{count:7d}  {what}")
    print(f"{len(chosen):7d}  molecules in\n{kept:7d}  kept")
    for reason, count in reasons.most_common():
        print(f"{count:7d}  dropped: {reason}")
    repeated = sum(row["repeats"] > 0 for row in labelled)
    print(f"{repeated:7d}  of the kept relaxed again along an imaginary mode")


if __name__ == "__main__":
    main()
