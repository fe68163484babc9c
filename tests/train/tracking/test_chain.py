"""The journal's chain: every change of a line is found and told, and a restart keeps one valid chain."""

from __future__ import annotations

import hashlib
import json
import tracemalloc

import pytest

from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.tracking.journal import Journal, read_journal
from mmgnn_dist.train.verify.records import read_record


@pytest.fixture
def run(tmp_path):
    """A journal of six steps in nine lines."""
    journal = Journal(tmp_path / "journal.jsonl", 0)
    journal.write("start", step=0, world=1)
    for step in range(1, 7):
        journal.write("train", step=step, loss=1 / step)
    journal.write("validation", step=6)
    journal.write("end", step=6)
    journal.close()
    return RunDir(tmp_path)


def texts(run):
    return run.journal.read_text().splitlines()


def rewrite(run, lines):
    run.journal.write_text("".join(line + "\n" for line in lines))


def faults(run):
    return [fault.line for fault in read_record(run).faults]


def test_the_hash_is_that_of_the_line_and_the_hash_before(run):
    before = ""
    for text in texts(run):
        body, _, found = text.rpartition(', "hash": "')
        expected = hashlib.blake2b(f"{before}\n{body}}}".encode(), digest_size=16).hexdigest()
        assert found == f'{expected}"}}'
        before = expected
    assert read_record(run).head == before and not faults(run)


def test_an_edited_line_is_named(run):
    lines = texts(run)
    lines[3] = lines[3].replace("0.3333333333333333", "0.3333333333333334")
    rewrite(run, lines)
    (fault,) = faults(run)
    assert "line 4: it was altered" in fault


def test_a_line_edited_with_a_new_hash_of_its_own_is_named_by_the_next(run):
    lines = texts(run)
    before = json.loads(lines[2])["hash"]
    body = lines[3].rpartition(', "hash"')[0].replace('"step": 3', '"step": 3 ') + "}"
    forged = hashlib.blake2b(f"{before}\n{body}".encode(), digest_size=16).hexdigest()
    lines[3] = f'{body[:-1]}, "hash": "{forged}"}}'
    rewrite(run, lines)
    (fault,) = faults(run)
    assert "line 5: it was altered, or the line before it is missing" in fault


def test_missing_moved_and_inserted_lines_are_named(run):
    whole = texts(run)
    rewrite(run, [*whole[:4], *whole[5:]])
    assert any("line 5" in fault and "missing" in fault for fault in faults(run))
    assert any("step 5 follows step 3" in fault for fault in faults(run))
    rewrite(run, [*whole[:3], whole[4], whole[3], *whole[5:]])
    assert "line 4: it was written after line 5" in faults(run)[0]
    rewrite(run, [*whole[:7], '{"kind": "system", "step": 6}', *whole[7:]])
    (fault,) = faults(run)
    assert "line 8: it was inserted" in fault
    rewrite(run, [*whole[:7], whole[6].replace('"train"', '"system"'), *whole[7:]])
    (fault,) = faults(run)
    assert "line 8" in fault
    rewrite(run, whole[1:])
    assert "line 1" in faults(run)[0]


def test_lines_that_miss_at_the_end_are_known_from_the_checkpoint(run):
    seen = run.checkpoints / "step_000006"
    seen.mkdir(parents=True)
    (seen / "manifest.json").write_text("{}")
    (seen / "state.json").write_text(json.dumps({"journal": json.loads(texts(run)[7])["hash"]}))
    assert not faults(run)
    rewrite(run, texts(run)[:-2])
    (fault,) = faults(run)
    assert "step_000006" in fault


def test_a_restart_keeps_one_valid_chain(run):
    torn = run.journal.read_text()[:-20]  # of the last line, as a crash leaves it
    run.journal.write_text(torn)
    Journal(run.journal, 6).close()
    assert not faults(run) and len(texts(run)) == 8
    journal = Journal(run.journal, 4)  # drops lines in the middle, for the restart before stays
    journal.write("resume", step=4)
    journal.write("train", step=5)
    journal.close()
    journal = Journal(run.journal, 3)
    journal.write("resume", step=3)
    journal.write("train", step=4)
    journal.close()
    assert not faults(run)
    assert [line["step"] for line in read_journal(run.journal)] == [0, 1, 2, 3, 4, 3, 4]


def test_a_restart_does_not_repair_a_damaged_line(run):
    lines = texts(run)
    lines[2] = lines[2].replace("0.5", "0.6")
    lines[3] = lines[3][:30] + lines[3][31:]
    rewrite(run, lines)
    journal = Journal(run.journal, 5)
    journal.write("resume", step=5)
    journal.close()
    assert [fault.split(": ")[1] for fault in faults(run)][:2] == [
        "journal.jsonl line 3",
        "journal.jsonl line 4",
    ]


def test_lines_of_older_versions_are_read_and_covered_by_the_first_that_has_a_hash(run):
    older = [text.rpartition(', "hash"')[0] + "}" for text in texts(run)[:4]]
    rewrite(run, older)
    record = read_record(run)
    assert record.chained == 0 and not record.faults and len(record.lines) == 4
    journal = Journal(run.journal, 3)
    journal.write("train", step=4)
    journal.close()
    assert read_record(run).chained == 1 and not faults(run)
    rewrite(run, [texts(run)[0], texts(run)[1].replace("1.0", "1.1"), *texts(run)[2:]])
    assert "line 5" in faults(run)[0]


def test_a_journal_keeps_no_lines_in_memory(tmp_path):
    """Two thousand lines grow the process by less than one byte a line."""
    journal = Journal(tmp_path / "journal.jsonl", 0)
    tracemalloc.start()
    for step in range(1, 201):
        journal.write("train", step=step, loss=0.5)
    before = tracemalloc.get_traced_memory()[0]
    for step in range(201, 2201):
        journal.write("train", step=step, loss=0.5)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    journal.close()
    assert grown < 2000 and journal.step == 2200
