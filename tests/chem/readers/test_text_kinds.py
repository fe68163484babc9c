"""What text files say in odd ways: read whole, or set aside with what was found; all is counted."""

import lzma

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_files import METHANE, archive, xyz_text

from mmgnn_dist.chem.checks import REASONS, check_molecules, detail
from mmgnn_dist.chem.elements import element_number, no_element
from mmgnn_dist.chem.readers.find import find_sources
from mmgnn_dist.config import TargetConfig
from mmgnn_dist.errors import UserError

WATER = "O 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n"
PLACES = np.array([[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])
ENERGY = {"energy": "eV"}


def read(paths, units=None, **settings):
    """(molecules of all sources, reason and detail of each, notes)."""
    names = [str(path) for path in (paths if isinstance(paths, list) else [paths])]
    sources = find_sources(names, ENERGY if units is None else units, **settings)
    order = sorted({target.name for source in sources for _, target, _ in source.targets})
    blocks = [source.convert(source.stream(0).read(source.rows), 0, order) for source in sources]
    verdicts = [check_molecules(block) for block in blocks]
    outcomes = [
        (REASONS[code], detail(block, k, REASONS[code]) if code else "")
        for block, codes in zip(blocks, verdicts, strict=True)
        for k, code in enumerate(codes)
    ]
    return blocks, outcomes, "\n".join(note for source in sources for note in source.notes)


def one(tmp_path, name, content, units=None, **settings):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    blocks, outcomes, notes = read(path, units, **settings)
    return blocks[0], outcomes, notes


def frame(comment="energy=-1", atoms=WATER, count="3"):
    return f"{count}\n{comment}\n{atoms}"


@pytest.mark.parametrize(
    ("comment", "key", "value"),
    [
        ("energy=-76.40, gap=0.31, id=w", "energy", -76.40),
        ("gap=0.31,energy=-76.40,id=w", "energy", -76.40),
        ("gap=0.31; energy=-76.40;", "energy", -76.40),
        ("energy=[-76.4]", "energy", -76.4),
        ('energy="_JSON [-76.4]"', "energy", -76.4),
        (" energy: -5.07054444 gnorm: 0.0001 xtb: 6.6.1 (8d0f1dd)", "energy", -5.07054444),
        ('dipole="0.0 3.0 4.0"', "dipole", 5.0),
        ("dipole=[0.0, 3.0, 4.0]", "dipole", 5.0),
        ("  -5.07054444", "comment", -5.07054444),
        ("ENERGY=1 energy=-2", "energy", -2.0),
    ],
)
def test_values_of_a_comment(tmp_path, comment, key, value):
    units = {key: "D" if key == "dipole" else "eV"} | ({"gap": "eV"} if "gap" in comment else {})
    block, outcomes, _ = one(tmp_path, "a.xyz", frame(comment), units)
    assert outcomes == [("", "")]
    assert block.y[0].tolist() == pytest.approx([value, 0.31][: len(units)])


@pytest.mark.parametrize(
    ("comment", "says"),
    [
        ("energy=-1 energy=-2", "energy stands twice: '-1' and '-2'"),
        ("energy=1,5", "energy: '1,5' has a decimal comma: write a point"),
        ('energy="1.5"eV', "energy: '\"1.5\"eV'"),
        ("energy=[1,2]", "energy: '[1,2]' are 2 numbers"),
        ("energy=1_000", "energy: '1_000'"),
    ],
)
def test_half_a_value_is_none(tmp_path, comment, says):
    assert one(tmp_path, "a.xyz", frame(comment))[1] == [("unreadable target", says)]


@pytest.mark.parametrize(
    ("smiles", "formula"),
    [
        ("C[C@H](N)C(=O)O", "C3H7NO2"),
        ("[CH3][CH3]", "C2H6"),
        ("[H][H]", "H2"),
        ("C(=O)(O)C", "C2H4O2"),
        ("OO", "H2O2"),
    ],
)
def test_an_identity_that_contradicts_the_atoms(tmp_path, smiles, formula):
    said = (f"{formula} by its SMILES, H2O by its atoms",)
    _, outcomes, _ = one(tmp_path, "a.xyz", frame(f"smiles={smiles} energy=-1 id=d"))
    assert outcomes == [("contradictory identity", *said)]
    table = {"smiles": [smiles, "O"], "atomic_numbers": [[8, 1, 1]] * 2, "positions": [PLACES.ravel()] * 2}
    pa.parquet.write_table(pa.table(table | {"energy": [1.0, 2.0]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[1] == [("contradictory identity", *said), ("", "")]


def test_formula_and_inchi_are_identities(tmp_path):
    text = frame("energy=-1 molecular_formula=H2O2") + frame("energy=-1 InChI=InChI=1S/H3O/h1H3/q+1")
    text += frame("energy=-1 molecular_formula=H2O InChI=InChI=1S/H2O/h1H2 SMILES=[2H]O[2H]")
    assert [why for _, why in one(tmp_path, "a.xyz", text)[1]] == [
        "H2O2 by its formula, H2O by its atoms",
        "H3O by its InChI, H2O by its atoms",
        "",
    ]


@pytest.mark.parametrize("column", ["formula", "Formula", "mol_formula", "Molecular_Formula"])
def test_a_formula_is_compared_whatever_its_column_is_called(tmp_path, column):
    """In comments and tables, also where the geometry is made from the SMILES beside it."""
    said = ("contradictory identity", "H2O2 by its formula, H2O by its atoms")
    text = frame(f"energy=-1 {column}=H2O2") + frame(f"energy=-1 {column}=H2O")
    _, outcomes, notes = one(tmp_path, "a.xyz", text)
    assert outcomes == [said, ("", "")] and "not read" not in notes
    _, outcomes, notes = one(tmp_path, "a.csv", f"smiles,{column},energy\nO,H2O2,1\nO,H2O,1\n")
    assert outcomes == [said, ("", "")] and "not read" not in notes
    table = {column: ["H2O2", "H2O"], "atomic_numbers": [[8, 1, 1]] * 2, "positions": [PLACES.ravel()] * 2}
    pq.write_table(pa.table(table | {"energy": [1.0, 2.0]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[1] == [said, ("", "")]


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("units=bohr", 1 / 0.529177210903), ("Length_Unit=nm", 0.1), ("unit=Angstrom", 1.0), ("units=eV", 1.0)],
)
def test_positions_in_the_unit_that_the_comment_gives(tmp_path, unit, factor):
    atoms = "".join(
        f"{s} {x:.9f} {y:.9f} {z:.9f}\n" for s, (x, y, z) in zip("OHH", PLACES * factor, strict=True)
    )
    block, outcomes, notes = one(tmp_path, "a.xyz", frame(f"energy=-1 {unit}", atoms))
    assert outcomes == [("", "")]
    assert np.allclose(block.pos.reshape(3, 3), PLACES, atol=1e-8)
    assert ("are read as Å" in notes) == (factor != 1)


def test_positions_in_no_known_unit_are_set_aside(tmp_path):
    _, outcomes, _ = one(tmp_path, "a.xyz", frame("energy=-1 length_unit=furlong"))
    assert outcomes[0][0] == "unreadable record" and "allowed are ang, angstrom" in outcomes[0][1]


@pytest.mark.parametrize("words", ["atoms", "water molecule 1", "! made by hand"])
def test_words_behind_the_number_of_atoms(tmp_path, words):
    good = frame(count=f"3 {words}")
    short = "\n".join(good.splitlines()[:-1]) + "\n"
    block, outcomes, notes = one(tmp_path, "a.xyz", good + short + good)
    assert [reason for reason, _ in outcomes] == ["", "unreadable record", ""]
    assert np.array_equal(block.pos[-9:].reshape(3, 3), PLACES)
    assert "words behind the number of atoms are not read" in notes


def test_a_missing_coordinate_does_not_take_the_next_column(tmp_path):
    files = {
        "qm9.xyz": METHANE.replace("\t 0.0019761204\t", "\t"),
        "plain.xyz": frame(atoms="O 0 0 0.119 0.8\nH 0 0.763 0.1\nH 0 -0.763 -0.477 0.1\n"),
        "more.xyz": frame("Properties=species:S:1:pos:R:3:q:R:1 energy=1", "O 0 0 1\nH 0 1 0 2\nH 1 0 0 1\n"),
    }
    for name, text in files.items():
        [(reason, why)] = one(tmp_path, name, text, {} if name == "qm9.xyz" else None)[1]
        assert reason == "unreadable record" and why.startswith(("atom 2 has", "atom 1 has 4 columns of 5"))
    labelled = frame(atoms="O 0 0 0.119 # oxygen\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n")
    assert one(tmp_path, "labelled.xyz", labelled)[1] == [("", "")]


@pytest.mark.parametrize(
    "properties",
    [
        "id:I:1:element:S:1:pos:R:3",
        "id:I:1:atomic_numbers:I:1:positions:R:3",
        "n:I:1:symbols:S:1:x:R:1:y:R:1:z:R:1",
        "n:I:1:Species:S:1:coordinates:R:3",
    ],
)
def test_other_names_of_properties(tmp_path, properties):
    symbols = ("8", "1", "1") if "numbers" in properties else ("o", "D", "T")
    atoms = "".join(f"7 {s} {x} {y} {w}\n" for s, (x, y, w) in zip(symbols, PLACES, strict=True))
    block, outcomes, _ = one(tmp_path, "a.xyz", frame(f"properties={properties} energy=1", atoms))
    assert outcomes == [("", "")] and block.z.tolist() == [8, 1, 1]
    assert np.array_equal(block.pos.reshape(3, 3), PLACES)


@pytest.mark.parametrize(
    ("symbol", "z", "says"),
    [
        ("o", 8, ""),
        (" H ", 1, ""),
        ("CL", 17, ""),
        ("d", 1, ""),
        ("T", 1, ""),
        ("17", 17, ""),
        ("O1", 0, "'O1' is no element (a label? write O)"),
        ("Cl2a", 0, "'Cl2a' is no element (a label? write Cl)"),
        ("Bq", 0, "'Bq' is no element (a ghost atom? leave it out)"),
        ("H:", 0, "'H:' is no element (a ghost atom? leave it out)"),
        ("-", 0, "'-' is no element (a ghost atom? leave it out)"),
        ("Qq", 0, "'Qq' is no element"),
    ],
)
def test_symbols_of_elements_are_one_rule(tmp_path, symbol, z, says):
    assert element_number(symbol) == z
    if not z:
        assert no_element(symbol) == says
        atoms = WATER.replace("O ", f"{symbol} ")
        assert one(tmp_path, "a.xyz", frame(atoms=atoms))[1] == [("unknown element", f"atom 1: {says}")]
    if len(symbol.strip()) <= 3 and not symbol.isdecimal():
        block, outcomes, _ = one(tmp_path, "a.sdf", molblock(symbols=(f"{symbol.strip():<3}", "C")))
        assert outcomes[0] == (("", "") if z else ("unknown element", f"atom 1: {says}"))
        assert not z or block.z.tolist() == [z, 6]


def molblock(title="a", symbols=("O", "C"), fields=("<energy>\n1\n",), version="V2000"):
    rows = [(symbol, 0.0, 0.0, 1.2 * k) for k, symbol in enumerate(symbols)]
    if version == "V2000":
        body = [f"{len(rows):3d}  0  0  0  0  0  0  0  0  0999 V2000"]
        body += [f"{x:10.4f}{y:10.4f}{z:10.4f} {s:<3} 0  0" for s, x, y, z in rows]
    else:
        body = ["  0  0  0     0  0            999 V3000", "M  V30 BEGIN CTAB"]
        body += [f"M  V30 COUNTS {len(rows)} 0 0 0 0", "M  V30 BEGIN ATOM"]
        body += [f"M  V30 {k} {s} {x} {y} {z} 0" for k, (s, x, y, z) in enumerate(rows, 1)]
        body += ["M  V30 END ATOM", "M  V30 END CTAB"]
    data = "".join(f"> {field}\n" for field in fields)
    return "\n".join([title, "     made           3D", "", *body, "M  END"]) + f"\n{data}"


@pytest.mark.parametrize("version", ["V2000", "V3000"])
def test_mol_blocks_without_their_ends_are_records(tmp_path, version):
    """Also one that is cut off, one whose data field holds a counts line, and one after `$$$$`."""
    blocks = [molblock(f"m{k}", version=version) for k in range(4)]
    cut = molblock("cut", version=version).split("M  END")[0]
    within = molblock("w", fields=("<energy>\n1\n", "<note>\n\n"), version=version)
    within = within.replace("<note>\n", "<note>\n  2  0  0  0  0  0  0  0  0  0999 V2000\n")
    text = blocks[0] + blocks[1] + cut + blocks[2] + "$$$$\n" + within + "$$$$\n" + blocks[3]
    block, outcomes, _ = one(tmp_path, "a.sdf", text)
    assert block.id.to_pylist()[:2] == ["m0", "m1"]
    assert [reason for reason, _ in outcomes] == ["", "", "unreadable record", "", "", ""]
    assert np.nan_to_num(block.y[:, 0]).tolist() == [1, 1, 0, 1, 1, 1]


def test_a_data_field_twice(tmp_path):
    text = molblock("a", fields=("<energy>\n1\n", "<ENERGY>\n2\n", "<note>\nx\n", "<note>\ny\n")) + "$$$$\n"
    text += molblock("b", fields=("<energy>\n1\n", "<energy>\n2\n")) + "$$$$\n"
    text += molblock("c", fields=("<energy>\n1\n", "<Smiles>\nC\n", "<SMILES>\nO\n")) + "$$$$\n"
    block, outcomes, notes = one(tmp_path, "a.sdf", text)
    assert outcomes == [
        ("", ""),
        ("unreadable target", "energy stands twice: '1' and '2'"),
        ("unreadable record", "smiles stands twice: 'C' and 'O'"),
    ]
    assert block.y[0] == 1 and "the data field note stands twice ('x' and 'y'): 1 records" in notes


def test_records_of_one_title_are_numbered(tmp_path):
    """Records that are equal byte by byte keep one id, and the second is a duplicate."""
    texts = [molblock("ligand", fields=(f"<energy>\n{k}\n",)) for k in (1, 2, 2, 3)] + [molblock("other")]
    block, _, notes = one(tmp_path, "a.sdf", "$$$$\n".join(texts))
    assert block.id.to_pylist() == ["ligand-1", "ligand-2", "ligand-2", "ligand-3", "other"]
    assert "4 records have an id that others have" in notes
    [source] = find_sources([str(tmp_path / "a.sdf")], ENERGY)
    assert source.convert(source.stream(3).read(2), 3, ["energy"]).id.to_pylist() == ["ligand-3", "other"]


@pytest.mark.parametrize("flat", [False, True])
def test_hydrogens_on_request(tmp_path, flat):
    from rdkit import Chem
    from rdkit.Chem import rdDepictor, rdDistGeom

    mol = Chem.AddHs(Chem.MolFromSmiles("CCCO"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=3)
    heavy = Chem.RemoveHs(mol)
    if flat:
        rdDepictor.Compute2DCoords(heavy)
    text = Chem.MolToMolBlock(heavy).replace("2D", "3D") + "> <energy>\n1\n\n$$$$\n"
    assert one(tmp_path, "a.sdf", text)[1][0][0] == ("2D coordinates" if flat else "missing hydrogens")
    block, [(reason, _)], notes = one(tmp_path, "a.sdf", text, add_hydrogens=True)
    assert reason == ("2D coordinates" if flat else "") and "hydrogens that bonds require" in notes
    if not flat:
        pos = block.pos.reshape(-1, 3)
        assert sorted(block.z) == sorted(atom.GetAtomicNum() for atom in mol.GetAtoms())
        assert pos[:4] == pytest.approx(heavy.GetConformer().GetPositions(), abs=6e-5)
        bonds = np.linalg.norm(pos[4:, None] - pos[None, :4], axis=-1).min(axis=1)
        assert ((bonds > 0.9) & (bonds < 1.2)).all()


CSV = "smiles,gap,id\nCCO,0.25,a\nCO,0.26,b\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mark.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("utf16.csv", CSV.encode("utf-16")),
        ("be.csv", b"\xfe\xff" + CSV.encode("utf-16-be")),
        ("bare16.csv", CSV.encode("utf-16-le")),
        ("cr.csv", CSV.replace("\n", "\r").encode()),
        ("crlf.csv", CSV.replace("\n", "\r\n").encode()),
        ("packed.csv.xz", lzma.compress(CSV.encode())),
        ("sep.csv", "sep=;\n" + CSV.replace(",", ";")),
        ("comma.csv", CSV.replace(",", ";").replace("0.", "0,")),
        ("comment.csv", "# from our notebook\n#\n" + CSV),
        ("hash.csv", "# " + CSV),
        ("trailing.csv", CSV.replace("\n", ",,\n")),
        ("case.csv", CSV.replace("smiles", " SMILES ").replace("id", "ID")),
        ("index.csv", ",smiles,gap,id\n0,CCO,0.25,a\n1,CO,0.26,b\n"),
        ("longer.csv", CSV.replace("0.25,a", "0.25,a,,")),
    ],
)
def test_tables_as_people_write_them(tmp_path, name, content):
    block, outcomes, notes = one(tmp_path, name, content, {"gap": "eV"})
    assert outcomes == [("", "")] * 2
    assert block.y[:, 0].tolist() == [0.25, 0.26] and block.id.to_pylist() == ["a", "b"]
    assert block.smiles.to_pylist() == ["CCO", "CO"]
    assert ("column 1 has no name and is not read" in notes) == (name == "index.csv")


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cr", "crlf", "crcrlf", "xz"]
)
def test_records_in_every_encoding(tmp_path, encoding):
    text = frame("energy=-1 id=é") + frame("energy=-2 id=b")
    ends = {"cr": "\r", "crlf": "\r\n", "crcrlf": "\r\r\n"}
    content = text.replace("\n", ends.get(encoding, "\n")).encode(
        "utf-8" if encoding in (*ends, "xz") else encoding
    )
    name, content = ("a.xyz.xz", lzma.compress(content)) if encoding == "xz" else ("a.xyz", content)
    block, outcomes, _ = one(tmp_path, name, content)
    assert outcomes == [("", "")] * 2 and block.id.to_pylist() == ["é", "b"]
    sdf = "$$$$\n".join([molblock("m0"), molblock("m1")]).replace("\n", ends.get(encoding, "\n"))
    plain = encoding in (*ends, "xz")
    block, outcomes, _ = one(tmp_path, "a.sdf", sdf.encode("utf-8" if plain else encoding))
    assert outcomes == [("", "")] * 2 and block.id.to_pylist() == ["m0", "m1"]


def test_letters_that_are_lost_are_told(tmp_path):
    assert (
        "1 records are not in UTF-8" in one(tmp_path, "a.xyz", frame("energy=1 id=\xe9").encode("latin-1"))[2]
    )


WORDS = ("#N/A", "-", "?", "ND", "NaN", "null", "n/a", "none", "empty", "--", "#DIV/0!", "")


def test_words_for_a_missing_value(tmp_path):
    rows = "".join(f"CCO,{word},{k}\n" for k, word in enumerate(WORDS)) + "CO,1.5,x\nCO,<0.1,y\n"
    block, outcomes, notes = one(tmp_path, "a.csv", "smiles,gap,id\n" + rows, {"gap": "eV"})
    assert np.isnan(block.y[:-2]).all() and block.y[-2] == 1.5
    assert [reason for reason, _ in outcomes] == [*[""] * (len(WORDS) + 1), "unreadable target"]
    assert f"gap: {len(WORDS) - 1} values are missing ('#N/A', '-', '?', 'ND')" in notes
    text = "".join(frame(f'energy="{word}"') for word in WORDS)
    block, outcomes, notes = one(tmp_path, "a.xyz", text)
    assert outcomes == [("", "")] * len(WORDS) and np.isnan(block.y).all()
    assert f"energy: {len(WORDS) - 1} values are missing" in notes


def test_smiles_files(tmp_path):
    text = "SMILES name\nCCO ethanol\nCO\tmethyl alcohol\nC\n"
    says = r"names 'gap', no source has it: a.smi: its columns are smiles, id: name a table .* id and gap as"
    with pytest.raises(UserError, match=says):
        one(tmp_path, "a.smi", text, {"gap": "eV"})
    block, outcomes, notes = one(tmp_path, "a.smi", text, {})
    assert block.id.to_pylist()[:2] == ["ethanol", "methyl alcohol"] and "has no labels of its own" in notes
    assert block.smiles.to_pylist() == ["CCO", "CO", "C"] and outcomes[:2] == [("", "")] * 2
    (tmp_path / "b.csv").write_text("Name,gap\nmethyl alcohol,2\nethanol,1\n")
    blocks, _, notes = read([tmp_path / "a.smi", tmp_path / "b.csv"], {"gap": "eV"})
    assert blocks[0].y[:2, 0].tolist() == [1, 2] and "b.csv: labels of 2 of 3 molecules of a.smi" in notes


def test_labels_by_id_beside_xyz_files(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.xyz").write_text(frame("id=special" if name == "c" else "no values"))
    (tmp_path / "labels.csv").write_text("file,gap\nb.xyz,0.2\na.xyz,0.1\nspecial,0.3\nunused,9\n")
    blocks, outcomes, notes = read(tmp_path, {"gap": "eV"})
    assert blocks[0].y[:, 0].tolist() == [0.1, 0.2, 0.3] and outcomes == [("", "")] * 3
    assert "labels of 3 of 3 molecules" in notes and "1 of its rows belong to no molecule" in notes
    (tmp_path / "labels.csv").write_text("file,gap\nb,0.2\nb,0.3\n")
    with pytest.raises(UserError, match="'b' has two rows with different values"):
        read(tmp_path, {"gap": "eV"})
    (tmp_path / "labels.csv").write_text("file,gap\nx,0.2\n")
    with pytest.raises(UserError, match="labels no molecule of .*: its first id is 'x', that .* is 'a'"):
        read(tmp_path, {"gap": "eV"})
    with pytest.raises(UserError, match="has no column smiles and no geometry: its columns are gap and ids"):
        read(tmp_path / "labels.csv", {"gap": "eV"})


@pytest.mark.parametrize("molecules", ["a.smi", "m.csv", "m.parquet", "mols"])
def test_labels_by_id_in_a_parquet_file(tmp_path, molecules):
    """Numbers, words with units and classes; ids are whole numbers that a null has made floats."""
    if molecules == "mols":
        (tmp_path / "mols").mkdir()
        for name in "12":
            (tmp_path / "mols" / f"{name}.xyz").write_text(frame(""))
    elif molecules == "m.parquet":
        pq.write_table(pa.table({"id": [1, 2], "smiles": ["CCO", "CO"]}), tmp_path / molecules)
    else:
        head = "smiles,id\n" if molecules == "m.csv" else ""
        sign = "," if molecules == "m.csv" else " "
        (tmp_path / molecules).write_text(f"{head}CCO{sign}1\nCO{sign}2\n")
    labels = {"Name": [2.0, None, 1.0], "gap": ["1 Hartree", "9", "0.5"], "toxic": [True, None, False]}
    pq.write_table(pa.table(labels), tmp_path / "labels.parquet")
    declared = {"gap": "eV", "toxic": TargetConfig(kind="class")}
    blocks, outcomes, notes = read([tmp_path / molecules, tmp_path / "labels.parquet"], declared)
    assert outcomes == [("", "")] * 2
    assert blocks[0].y.tolist() == [[0.5, 0.0], [pytest.approx(27.211386245988), 1.0]]
    assert f"labels.parquet: labels of 2 of 2 molecules of {molecules}" in notes


def test_labels_with_decimal_commas_and_of_files_in_folders(tmp_path):
    for name in ("x/a", "x/b"):
        (tmp_path / f"{name}.xyz").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.xyz").write_text(frame(""))
    (tmp_path / "labels.csv").write_text("file;gap\na.xyz;0,25\nx/b.xyz;0,5\n")
    blocks, _, _ = read(tmp_path, {"gap": "eV"})
    assert blocks[0].y[:, 0].tolist() == [0.25, 0.5]
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "a.xyz").write_text(frame(""))
    with pytest.raises(UserError, match="'a' may be x/a and y/a"):
        read(tmp_path, {"gap": "eV"})


def test_units_behind_values_of_every_text_reader(tmp_path):
    texts = {
        "a.xyz": frame("energy=-1 Hartree") + frame("energy='-2 eV'") + frame("energy=-3 D"),
        "a.csv": "smiles,energy\nO,-1 Hartree\nO,-2eV\nO,-3 D\n",
    }
    for name, text in texts.items():
        block, outcomes, notes = one(tmp_path, name, text, {})  # the values give the unit
        assert (
            block.y[:2, 0] == pytest.approx([-27.211386245988, -2.0])
            and outcomes[2][0] == "unreadable target"
        )
        assert "energy: 3 values are read in the unit behind them ('Hartree', 'eV', 'D')" in notes


QM9_HEAD = "mol_id,A,B,C,mu,alpha,homo,lumo,gap,r2,zpve,u0,u298,h298,g298,cv,u0_atom\n"


@pytest.mark.parametrize("way", ["tar.gz", "zip", "named", "apart"])
def test_qm9_as_libraries_fetch_it(tmp_path, way):
    """SD file, table and list of uncharacterised molecules: in an archive, or named one by one."""
    sdf = "$$$$\n".join(molblock(f"gdb_{k}", fields=()) for k in (1, 2, 3))
    table = QM9_HEAD + "".join(f"gdb_{k},1,1,1,{k},{',1' * 11}\n".replace(",,", ",") for k in (1, 2, 3))
    files = {"gdb9.sdf": sdf, "gdb9.sdf.csv": table, "uncharacterized.txt": "Index\n=====\n 2 CO CO 0.1\n"}
    if way in ("tar.gz", "zip"):
        paths = [archive(tmp_path / f"qm9.{way}", {f"raw/{k}": v.encode() for k, v in files.items()})]
    else:
        paths = [tmp_path / (str(k) if way == "apart" else "") / name for k, name in enumerate(files)]
        for path, text in zip(paths, files.values(), strict=True):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    blocks, outcomes, notes = read(paths, {})
    assert [reason for reason, _ in outcomes] == ["", "uncharacterized", ""]
    assert blocks[0].id.to_pylist()[0] == "dsgdb9nsd_000001" and len(blocks) == 1
    order = sorted(QM9_HEAD.split(",")[4:16])
    assert blocks[0].y[:, order.index("mu")].tolist() == [1, 2, 3]
    assert "advise against" not in notes and "not read" not in notes


def test_a_source_without_values_shows_what_it_has(tmp_path):
    notes = one(tmp_path, "a.xyz", frame("  -5.07054444"), {})[2]
    assert "comment of its first frame is '-5.07054444'" in notes and "column: comment" in notes
    assert "'made by hand': write key=value" in one(tmp_path, "a.xyz", frame("made by hand"), {})[2]
    assert "its data fields are note" in one(tmp_path, "a.sdf", molblock(fields=("<note>\nx\n",)), {})[2]


def test_frames_without_odd_lines_are_cut_as_ever(tmp_path):
    text = xyz_text(["O", "H", "H"], PLACES, "energy=1")
    text += xyz_text(["H", "H"], [[0, 0, 0], [0, 0, 0.7]], "energy=2")
    block, outcomes, notes = one(tmp_path, "a.xyz", text)
    assert outcomes == [("", "")] * 2 and not notes and block.id.to_pylist() == ["a-0", "a-1"]


def test_a_table_of_ids_and_geometries_is_no_table_of_labels(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('ID;z;pos;energy\na;"[8, 1]";"[[0, 0, 0.1], [0, 0.7, -0.4]]";1,5\n', encoding="utf-8")
    [source] = find_sources([str(path)], ENERGY)
    block = source.convert(source.stream(0).read(1), 0, ["energy"])
    assert (block.id.to_pylist(), block.z.tolist(), block.y.tolist()) == (["a"], [8, 1], [[1.5]])


def test_a_smiles_file_with_a_header_of_columns_is_a_table(tmp_path):
    for sign in ",\t;":
        text = f"SMILES{sign}Name{sign}gap\nCCO{sign}ethanol{sign}1.5\nCO{sign}methyl alcohol{sign}2\n"
        (tmp_path / "a.smi").write_text(text)
        [source] = find_sources([str(tmp_path / "a.smi")], {"gap": "eV"})
        table = source.stream(0).read(2)
        assert source.rows == 2 and table["smiles"].to_pylist() == ["CCO", "CO"]
        assert table["gap"].to_pylist() == ["1.5", "2"] and source.ignored == ("Name",)


def test_blank_lines_and_dollars_in_sd_files(tmp_path):
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    mol = Chem.AddHs(Chem.MolFromSmiles("O"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    block = Chem.MolToMolBlock(mol)
    record = f"{block}> <note>\n$$$$ is money\n\n> <energy>\n-1\n\n"
    text = f"\n\n{record}$$$$\n\n\n\n{record}$$$$  \n{record}"
    made, outcomes, _ = one(tmp_path, "a.sdf", text)
    assert outcomes == [("", "")] * 3 and made.y[:, 0].tolist() == [-1.0] * 3
