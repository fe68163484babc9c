"""Packed files in bounded memory, and names and sizes that no archive should have."""

import bz2
import io
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import zipfile

import pytest
from made_files import xyz_text

from mmgnn_dist.chem.checks import BadRecord
from mmgnn_dist.chem.streams.encoding import plain_text
from mmgnn_dist.chem.streams.members import members

FRAME = xyz_text(
    ["O", "H", "H"], [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]], "energy=1"
).encode()
MEASURE = """
import resource, sys
from mmgnn_dist.chem.readers.find import find_sources
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    [source] = find_sources([sys.argv[1]], {})
    source.convert(source.stream(0).read(source.rows), 0, [])
    print(source.rows, end=" ")
except Exception as error:
    print(type(error).__name__, end=" ")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def content(path):
    """(name of each member, its bytes or its fault)."""
    found = []
    for member in members(path, (".xyz",)):
        try:
            found.append((member.name, member.content.read()))
        except AttributeError:
            found.append((member.name, str(member.content)))
        except BadRecord as error:
            found.append((member.name, str(error)))
    return found


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_members_of_a_zip(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as made:
        made.writestr("a.xyz", FRAME * 50)
        made.writestr("b.xyz.bz2", bz2.compress(FRAME))
        made.writestr("c.xyz.xz", lzma.compress(FRAME) + lzma.compress(FRAME))
    assert content(tmp_path / "a.zip") == [("a", FRAME * 50), ("b", FRAME), ("c", FRAME * 2)]


def zeros(path):
    """Much that takes little: 600 MB of zeros in each way of packing."""
    part, count = bytes(1 << 20), 600
    if path.suffix == ".zip":
        method = zipfile.ZIP_LZMA if "lzma" in path.name else zipfile.ZIP_BZIP2
        with zipfile.ZipFile(path, "w", method) as made, made.open("a.xyz", "w") as member:
            for _ in range(count):
                member.write(part)
        return
    with lzma.open(path, "wb", preset=0) if path.suffix == ".xz" else bz2.open(path, "wb") as made:
        for _ in range(count):
            made.write(part)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bzip2.zip", "lzma.zip", "a.xyz.xz", "a.xyz.bz2"])
def test_memory_does_not_grow_with_what_is_packed(tmp_path, name):
    zeros(tmp_path / name)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / name)]
    rows, grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(rows) >= 1 and int(grown) < 300


def test_a_dictionary_that_takes_much_memory_is_refused(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    maker = lzma.LZMACompressor(format=lzma.FORMAT_XZ, filters=[{**filters[0], "dict_size": 1 << 20}])
    packed = bytearray(maker.compress(FRAME) + maker.flush())
    place = packed.index(b"\x21\x01") + 2  # size of the dictionary in the header of the block
    packed[place] = 36  # 1 GiB
    header = packed[12 : 12 + (packed[12] + 1) * 4 - 4]
    import zlib

    packed[12 + len(header) : 12 + len(header) + 4] = struct.pack("<I", zlib.crc32(header))
    (tmp_path / "a.xyz.xz").write_bytes(packed)
    assert content(tmp_path / "a.xyz.xz") == [("a", "damaged file: Memory usage limit exceeded")]


def test_names_and_sizes_that_no_archive_should_have(tmp_path):
    info = zipfile.ZipInfo("x.xyz")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(info, FRAME)
        made.writestr("good.xyz", FRAME)
    raw = (tmp_path / "a.zip").read_bytes().replace(b"\x05\x00\x00\x00x.xyz", b"\x00\x00\x00\x00x.xyz", 1)
    (tmp_path / "a.zip").write_bytes(raw)
    assert ("good", FRAME) in content(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as made:
        nameless = zipfile.ZipInfo("y")
        nameless.filename = ""
        made.writestr(nameless, FRAME)
        made.writestr("good.xyz", FRAME)
    assert content(tmp_path / "b.zip") == [("good", FRAME)]
    header = tarfile.TarInfo("a.xyz")
    block = bytearray(header.tobuf())
    block[124:136] = (-5).to_bytes(12, "big", signed=True)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    (tmp_path / "a.tar").write_bytes(bytes(block) + FRAME + bytes(2048))
    [(name, fault)] = content(tmp_path / "a.tar")
    assert name == "a.tar" and "damaged file" in fault


def test_a_file_whose_name_is_not_utf8(tmp_path, capsys):
    """It is prepared to the end: the manifest holds a name that can be written."""
    from mmgnn_dist.chem.readers.find import find_sources

    path = os.fsencode(tmp_path) + b"/caf\xe9.xyz"
    try:
        with open(path, "wb") as made:
            made.write(FRAME)
    except OSError:
        pytest.skip("this disk takes UTF-8 names alone")
    [source] = find_sources([os.fsdecode(path)], {"energy": "eV"})
    for text in (
        source.name,
        *source.notes,
        *source.convert(source.stream(0).read(1), 0, ["energy"]).id.to_pylist(),
    ):
        text.encode()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 16])
def test_text_is_plain_whatever_the_size_of_its_pieces(size):
    class Pieces(io.RawIOBase):
        def __init__(self, data):
            self.data = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, buffer):
            part = self.data.read(min(size, len(buffer)))
            buffer[: len(part)] = part
            return len(part)

    text = "a\rb\r\nc\r\r\nd\r\re\néß\U0001f600\r"
    plain = "a\nb\r\nc\r\r\nd\n\ne\néß\U0001f600\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        raw = io.BufferedReader(Pieces(text.encode(encoding)))
        assert plain_text(raw).read().decode() == plain
