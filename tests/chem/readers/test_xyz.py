import time

import pytest

from mmgnn_dist.chem.checks import BadRecord
from mmgnn_dist.chem.readers.xyz import MAX_COMMENT, pairs, parse_xyz


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("energy=-1.5 name=water", {"energy": "-1.5", "name": "water"}),
        ("""a="two words" b='also two' c = 3""", {"a": "two words", "b": "also two", "c": "3"}),
        ('Lattice="1 0 0 0 1 0 0 0 1" pbc="T T F"', {"Lattice": "1 0 0 0 1 0 0 0 1", "pbc": "T T F"}),
        ("v=[1,2] w={1 2} flag x=1", {"v": "[1,2]", "w": "{1 2}", "x": "1"}),
        ("", {}),
        ("just words", {}),
    ],
)
def test_pairs(comment, expected):
    assert pairs(comment) == expected


@pytest.mark.parametrize("piece", ["a", "a=", "a={", 'a="', "a=[", "=", " ", '"', '\\"', "a b", ",", "é=1 "])
def test_the_time_grows_with_the_length_not_its_square(piece):
    """Eight times as long: eight times the work, where each character searched the rest it would be 64."""
    comment = (piece * MAX_COMMENT)[:MAX_COMMENT]
    eighth, whole = (least_seconds(comment[:length]) for length in (MAX_COMMENT // 8, MAX_COMMENT))
    assert whole < 30 * max(eighth, 1e-3)


def least_seconds(comment: str) -> float:
    """Time of this thread alone, the least of three: another load on the machine does not count."""
    seconds = []
    for _ in range(3):
        began = time.thread_time()
        pairs(comment)
        seconds.append(time.thread_time() - began)
    return min(seconds)


def test_columns_stand_where_properties_says():
    raw = b"2\nProperties=id:I:1:pos:R:3:forces:R:3:Z:I:1\n1 0 0 0 9 9 9 1\n2 0 0 .74 9 9 9 1\n"
    record = parse_xyz(raw, "h2")
    assert (record.id, list(record.z), list(record.pos)) == ("h2", [1, 1], [0, 0, 0, 0, 0, 0.74])


@pytest.mark.parametrize(("symbol", "z"), [("CL", 17), ("cl", 17), ("17", 17), ("d", 1)])
def test_elements(symbol, z):
    assert list(parse_xyz(f"1\n\n{symbol} 0 0 0\n".encode(), "a").z) == [z]


@pytest.mark.parametrize("number", ["1.5*^-1", "1.5D-1", "0.15", "+1.5e-1", ".15"])
def test_numbers(number):
    assert parse_xyz(f"1\n\nH 0 0 {number}\n".encode(), "a").pos[2] == 0.15


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"2\n\nH 0 0 0\n", "1 lines of atoms where 2 are announced"),
        (b"1\n\nH 0 0\n", "atom 1: 'H 0 0'"),
        (b"1\nProperties=pos:R:3\n0 0 0\n", "names no species"),
        (b"1\npbc=[F, T, F]\nH 0 0 0\n", "periodic structure"),
        (b"9" * 5000 + b"\n\n", "unreadable record|digits"),
        (b"1\ngdb 1 " + b"0 " * 15 + b"\nH 0 0 0 0.1\n1.0\nC C\nno InChI\n", "no InChI"),
    ],
)
def test_what_is_no_molecule_says_why(raw, message):
    with pytest.raises((BadRecord, ValueError), match=message):
        parse_xyz(raw, "a")
