import numpy as np
import pytest

from mmgnn_dist.chem.readers.find import find_sources
from mmgnn_dist.config import TargetConfig
from mmgnn_dist.data.prepare.plan import check_first_labels
from mmgnn_dist.data.prepare.staged_labels import target_lines
from mmgnn_dist.errors import UserError

WATER = "O 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n"


@pytest.fixture
def frames(tmp_path):
    """Write XYZ frames of water with the given comments."""

    def write(*comments, name="water.xyz"):
        path = tmp_path / name
        path.write_text("".join(f"3\n{comment}\n{WATER}" for comment in comments))
        return path

    return write


def targets(path, **declared):
    """(the source, its labels by target), as `prepare` reads them."""
    [source] = find_sources([str(path)], dict(declared))
    names = [target.name for _, target, _ in source.targets]
    block = source.convert(source.stream(0).read(source.rows), 0, names)
    return source, dict(zip(names, block.y.T, strict=True))


def test_a_declared_energy_under_another_name_has_the_same_bits(frames):
    path = frames("energy=-76.40123 REF_energy=-76.40123", "energy=-76.3 REF_energy=-76.3")
    kept = TargetConfig(unit="Hartree", kind="extensive")
    source, y = targets(path, energy="Hartree", REF_energy=kept)
    assert y["energy"].tobytes() == y["REF_energy"].tobytes()
    found = {target.name: (target.unit, target.kind) for _, target, _ in source.targets}
    assert found == dict.fromkeys(("energy", "REF_energy"), ("eV", "extensive"))


def test_another_name_of_a_known_target_is_that_target_and_said(frames):
    source, y = targets(
        frames("U0=-76.4 dipole_moment=1.85 other=2 note=abc"), U0="Hartree", dipole_moment="D"
    )
    assert y["u0"] == pytest.approx([-76.4 * 27.211386245988]) and y["mu"] == [1.85]
    lines = target_lines([source], {})
    assert "water.xyz: column U0 is read as target u0" in lines
    assert sum("other" in line for line in lines) == sum("note" in line for line in lines) == 1


def test_columns_in_any_case_and_the_comment_itself(frames):
    _, y = targets(frames("-5.07", "-5.08"), energy=TargetConfig(column="Comment", unit="Hartree"))
    assert y["energy"] == pytest.approx(np.array([-5.07, -5.08]) * 27.211386245988)
    bare = find_sources([str(frames("  -5.07  "))], {})[0]
    assert any("comments such as '-5.07' are not read" in note for note in bare.notes)


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"energy": "eV", "REF_energy": "eV"}, "both target energy.*data.targets.REF_energy.kind"),
        ({"own": TargetConfig(column="energy", unit="eV"), "energy": "eV"}, "declare one of them"),
        ({"energy": TargetConfig(column="REF_energy")}, "data.targets.energy.unit=UNIT"),
        ({"energy": TargetConfig(unit="eV", kind="intensive")}, "energy is extensive"),
        ({"energy": "eV/atom"}, "value per atom"),
        (
            {"energy": "eV", "own": TargetConfig(column="nothing", unit="eV")},
            "data.targets names 'nothing', no source has it",
        ),
    ],
)
def test_contradictions_are_the_users_error(frames, declared, says):
    with pytest.raises(UserError, match=says):
        targets(frames("energy=-76.4 REF_energy=-76.4"), **declared)


def test_a_wrong_unit_of_a_known_target_is_refused_with_the_likely_one(frames):
    path = frames("homo=-12.6 gap=8.1 energy=-2079")
    for unit, likely in (("Hartree", "eV"), ("kcal/mol", "")):
        source, _ = targets(path, homo=unit, gap="eV", energy="eV")
        if likely:
            with pytest.raises(UserError, match="they look like eV: give data.units.homo=eV"):
                check_first_labels(source)
        else:
            check_first_labels(source)
    source, _ = targets(path, homo="eV", gap="eV", energy="Hartree")
    with pytest.raises(UserError, match="data.units.energy=eV"):
        check_first_labels(source)


@pytest.mark.parametrize("form", ["xyz", "csv", "parquet", "sdf"])
def test_classes_in_every_form(tmp_path, save, frames, form):
    values = ["yes", "no", "", "yes"]
    if form == "xyz":
        path = frames(*(f'toxic="{value}"' for value in values))
    elif form == "csv":
        path = tmp_path / "a.csv"
        path.write_text("smiles,Toxic\n" + "".join(f"O,{value}\n" for value in values))
    elif form == "sdf":
        block = (
            "\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    0.0000 He  0  0\nM  END\n"
        )
        path = tmp_path / "a.sdf"
        path.write_text("".join(f"{block}>  <Toxic>\n{value}\n\n$$$$\n" for value in values))
    else:
        columns = {"atomic_numbers": [[2]] * 4, "positions": [[0.0] * 3] * 4}
        path = save({**columns, "Toxic": [value or None for value in values]})
    source, y = targets(path, toxic=TargetConfig(kind="class"))
    [(_, target, _)] = source.targets
    assert (target.kind, target.unit, target.classes) == ("class", "", ("no", "yes"))
    assert np.array_equal(y["toxic"], [1, 0, np.nan, 1], equal_nan=True)


def test_classes_are_those_of_all_sources(save, tmp_path):
    columns = {"atomic_numbers": [[2], [2]], "positions": [[0.0] * 3] * 2}
    first = save({**columns, "toxic": [True, False]}, "a/first.parquet")
    second = save({**columns, "toxic": ["maybe", "true"]}, "b/second.parquet")
    sources = find_sources([str(first), str(second)], {"toxic": TargetConfig(kind="class")})
    assert {source.targets[0][1].classes for source in sources} == {("false", "maybe", "true")}
    one = save({**columns, "toxic": [1, 1]}, "c/one.parquet")
    with pytest.raises(UserError, match="has 1 class: two are needed"):
        find_sources([str(one)], {"toxic": TargetConfig(kind="class")})
