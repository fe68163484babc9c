"""PubChem's web service: the real client over a real socket against a server that misbehaves."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from email.message import Message
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pubchem_server import FAULTS, PubChemServer, Records, made_key, made_records, shared_records

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import TEXT_FIELDS, PubChemConfig
from mmgnn_dist.errors import UserError
from mmgnn_dist.pubchem.answers import Kind, classify_answer
from mmgnn_dist.pubchem.client import Client, ServiceDown
from mmgnn_dist.pubchem.enrich import EnrichResult, enrich
from mmgnn_dist.pubchem.limits import Limits
from mmgnn_dist.pubchem.redirects import redirect_target
from mmgnn_dist.pubchem.text_table import TEXT_ABOUT
from mmgnn_dist.pubchem.throttle import Throttle, retry_after

SCALE = 20
PUG = {
    "iupac_name": "IUPACName",
    "title": "Title",
    "molecular_formula": "MolecularFormula",
    "molecular_weight": "MolecularWeight",
    "xlogp": "XLogP",
    "h_bond_donor_count": "HBondDonorCount",
    "h_bond_acceptor_count": "HBondAcceptorCount",
    "rotatable_bond_count": "RotatableBondCount",
    "tpsa": "TPSA",
    "smiles": "SMILES",
}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def keys_file(tmp_path: Path):
    def write(keys: list[str | None]) -> Path:
        path = tmp_path / "molecules.parquet"
        pq.write_table(pa.table({"inchikey": pa.array(keys, pa.string())}), path)
        return path

    return write


def run(server: PubChemServer, source: Path, to: Path, **options) -> EnrichResult:
    config = PubChemConfig(base_url=server.url, **options)
    return enrich(source, to, config, limits=Limits().faster(server.scale))


def expected(records: Records, keys) -> dict[str, dict]:
    """What a plain look-up in the server's own records gives for each key."""
    rows = {}
    for key in keys:
        cids = sorted(records.cids.get(key, []))
        if not cids:
            continue

        def named(cid: int) -> bool:
            held = records.properties[cid]
            return bool(held.get("IUPACName") or held.get("Title") or records.synonyms.get(cid))

        cid = next((cid for cid in cids if named(cid)), cids[0])
        held = records.properties[cid]
        row = {ours: held.get(theirs) for ours, theirs in PUG.items()}
        row["molecular_weight"] = float(held["MolecularWeight"]) if "MolecularWeight" in held else None
        for name in ("iupac_name", "title"):
            row[name] = " ".join(row[name].split()) if row[name] else None
        rows[key] = row | {"cid": cid, "synonyms": records.synonyms.get(cid)}
    return rows


def found(to: Path) -> dict[str, dict]:
    rows = {}
    for row in pq.read_table(to).to_pylist():
        sources = json.loads(row.pop("field_sources") or "{}")
        assert set(sources) == {name for name in TEXT_FIELDS if row[name] is not None}
        assert all(value.startswith("web service, 20") for value in sources.values())
        rows[row.pop("inchikey")] = row
    return rows


def keys_of(count: int, absent: int) -> list[str]:
    return [made_key(number) for number in range(count)] + [made_key(10**6 + n) for n in range(absent)]


def test_finds_all_asks_nothing_twice_and_joins(tmp_path, keys_file):
    records, keys = made_records(230), keys_of(230, 170)
    source, to = keys_file([*keys, None, "not a key", keys[0]]), tmp_path / "text.parquet"
    with PubChemServer(records, SCALE) as server:
        result = run(server, source, to)
        assert found(to) == expected(records, keys)
        assert result.counts["found"] == 230 and result.counts["several"] == 46
        assert result.counts["molecules"] == 403 and result.counts["without_key"] == 2
        assert result.counts["requests"] == len(server.stamps) == 4 + 3 + 3
        assert any("46 InChIKeys have several CIDs" in line for line in result.lines)
        first = to.read_bytes()
        again = run(server, source, to)
        assert again.counts["requests"] == 0 and to.read_bytes() != b""
        assert pq.read_table(to).equals(pq.read_table(pa.BufferReader(first)))
        server.assert_polite()
        assert not server.again
    assert json.loads(pq.read_schema(to).metadata[TEXT_ABOUT])["found"] == 230


def test_prepare_joins_what_enrich_wrote(sample_shards, tmp_path):
    from mmgnn_dist.data.prepare.pipeline import prepare
    from mmgnn_dist.data.shardset.shards import ShardSet

    keys = sample_shards.column("inchikey").to_pylist()
    records = Records()
    for number, key in enumerate(keys[:10]):
        records.add(500 + number, key, ["ever", "so"], IUPACName=f"name-{number}", XLogP=-0.5)
    to = tmp_path / "text.parquet"
    with PubChemServer(records) as server:
        run(server, sample_shards.path, to)  # a shard set is as good as a file
    prepare(["sample"], tmp_path / "shards", [to])
    shards = ShardSet.open(tmp_path / "shards")
    assert shards.manifest["text"][0]["joined"]["exact"] >= 10
    row = shards.shards[0].table.slice(1, 1).to_pylist()[0]
    assert row["inchikey"] == keys[1] and row["iupac_name"] == "name-1" and row["synonyms"] == ["ever", "so"]
    assert row["context"][1] == -0.5
    assert json.loads(row["field_sources"])["iupac_name"].startswith("PubChem CID 501 (web service, 20")


@pytest.mark.parametrize("fault", FAULTS)
def test_survives_each_fault(fault, tmp_path, keys_file):
    records, keys = made_records(20), keys_of(20, 5)
    with PubChemServer(records, 2 * SCALE, script=(fault, "", fault)) as server:
        run(server, keys_file(keys), tmp_path / "text.parquet")
        assert server.met[fault] == 2
        server.assert_polite()
        assert not server.again
    assert found(tmp_path / "text.parquet") == expected(records, keys)


def test_random_faults_of_every_kind(tmp_path, keys_file):
    records, keys = made_records(3000), keys_of(3000, 3000)
    with PubChemServer(records, SCALE, rate=0.1, seed=3) as server:
        run(server, keys_file(keys), tmp_path / "text.parquet")
        server.assert_polite()
        assert not server.again
        assert sum(server.met.values()) - server.met[""] >= 8
    assert found(tmp_path / "text.parquet") == expected(records, keys)


@pytest.mark.shared
def test_all_of_qm9_at_ten_percent_faults(shared, tmp_path):
    source, to = shared / "data/qm9/qm9.parquet", tmp_path / "text.parquet"
    records = shared_records(shared / "data/pubchem")
    with PubChemServer(records, SCALE, rate=0.1, seed=1) as server:
        result = run(server, source, to)
        pace = server.assert_polite()
        assert not server.again
        faults = sum(server.met.values()) - server.met[""]
        assert faults > 0.05 * len(server.stamps)
        print(f"{len(server.stamps)} requests, {result.seconds:.1f} s, {pace}, faults {dict(server.met)}")
        assert run(server, source, to).counts["requests"] == 0
    keys = {key for key in pq.read_table(source, columns=["inchikey"])["inchikey"].to_pylist() if key}
    truth = expected(records, keys)
    assert len(truth) > 800
    assert found(to) == truth


@pytest.mark.slow
def test_limits_in_real_time(tmp_path, keys_file):
    keys = keys_of(0, 100 * 420)  # longer than a minute
    with PubChemServer(made_records(1), scale=1) as server:
        result = run(server, keys_file(keys), tmp_path / "text.parquet")
        print(server.assert_polite())
    assert len(server.stamps) == 420 and result.seconds > 80


def test_killed_run_continues(tmp_path, keys_file):
    records, keys = made_records(2000), keys_of(2000, 1000)
    source, to = keys_file(keys), tmp_path / "text.parquet"
    program = (
        "import sys; from pathlib import Path; from mmgnn_dist.pubchem.limits import Limits\n"
        "from mmgnn_dist.config import PubChemConfig; from mmgnn_dist.pubchem.enrich import enrich\n"
        "source, to, url = sys.argv[1:]\n"
        "enrich(Path(source), Path(to), PubChemConfig(base_url=url), limits=Limits().faster(20))"
    )
    with PubChemServer(records, SCALE, rate=0.05, faults=("busy", "dropped", "429")) as server:
        for kill_at in (9, 45):
            child = subprocess.Popen([sys.executable, "-c", program, str(source), str(to), server.url])
            while len(server.stamps) < kill_at and child.poll() is None:
                time.sleep(0.002)
            os.kill(child.pid, signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
            assert not to.exists()
        run(server, source, to)
        server.assert_polite()
        assert len(server.again) <= 2 * 100  # the request under way at each kill
    assert found(to) == expected(records, keys)


def test_lost_list_key_is_not_taken_for_no_answer(tmp_path, keys_file):
    records, keys = made_records(20), keys_of(20, 5)
    with PubChemServer(
        records, SCALE, script=("list key", "lost key", "", "list key", "", "expired key")
    ) as server:
        run(server, keys_file(keys), tmp_path / "text.parquet")
        assert server.met["lost key"] == server.met["expired key"] == 1
    assert found(tmp_path / "text.parquet") == expected(records, keys)


def test_list_key_without_end_opens_the_breaker(tmp_path, keys_file, monkeypatch):
    def never(self, handler, *ignored):
        self.stamps.append(0)
        self._send(handler, 202, {"Waiting": {"ListKey": "1"}})

    monkeypatch.setattr(PubChemServer, "answer", never)
    limits = replace(Limits().faster(200), longest=0.05)
    with PubChemServer(Records(), 200) as server, pytest.raises(ServiceDown, match="list key never came"):
        config = PubChemConfig(base_url=server.url)
        enrich(keys_file(keys_of(1, 0)), tmp_path / "text.parquet", config, limits=limits)
    assert len(server.stamps) > 16


def test_what_pubchem_lacked_is_asked_again_when_it_is_old(tmp_path, keys_file):
    source, to, records = keys_file(keys_of(3, 2)), tmp_path / "text.parquet", made_records(3)
    with PubChemServer(records, SCALE) as server:
        run(server, source, to)
        records.add(77, made_key(10**6), Title="new")
        assert run(server, source, to).counts["found"] == 3
        cache = sqlite3.connect(tmp_path / "pubchem-cache.sqlite")
        cache.execute("UPDATE answers SET date = date - 91 * 86400")
        cache.commit()
        cache.close()
        server.again.clear()
        assert run(server, source, to).counts["found"] == 4
        assert ("properties by inchikey", made_key(0)) not in server.again  # what was found never grows old
        assert run(server, source, to, max_age=0).counts["requests"] > 0
    assert found(to)[made_key(10**6)]["title"] == "new"


def test_mirror_with_old_names(tmp_path, keys_file):
    records, keys = made_records(250), keys_of(250, 0)
    with PubChemServer(records, SCALE, old=True) as server:
        run(server, keys_file(keys), tmp_path / "text.parquet")
        assert len(server.stamps) == 3 + 4 + 3  # the old names are tried once, then known
    assert found(tmp_path / "text.parquet") == expected(records, keys)


def test_one_bad_identifier_does_not_spoil_its_list(tmp_path, keys_file, monkeypatch):
    records, keys = made_records(40), keys_of(40, 0)
    honest = PubChemServer._look_up

    def picky(self, namespace, names, operation):
        if made_key(7) in names:
            return 400, {"Fault": {"Code": "PUGREST.BadRequest", "Message": "Invalid InChIKey"}}
        return honest(self, namespace, names, operation)

    monkeypatch.setattr(PubChemServer, "_look_up", picky)
    with PubChemServer(records, SCALE) as server:
        assert run(server, keys_file(keys), tmp_path / "text.parquet").counts["found"] == 39


def test_a_service_that_refuses_everything_is_no_empty_pubchem(tmp_path, keys_file, monkeypatch):
    def closed(self, namespace, names, operation):
        return 400, {"Fault": {"Code": "PUGREST.BadRequest", "Message": "Unknown namespace"}}

    source, to, honest = keys_file(keys_of(150, 0)), tmp_path / "text.parquet", PubChemServer._look_up
    monkeypatch.setattr(PubChemServer, "_look_up", closed)
    with PubChemServer(made_records(150), SCALE) as server:
        with pytest.raises(UserError, match="refuses whatever it is asked .*Unknown namespace.*--base-url"):
            run(server, source, to)
        assert len(server.stamps) < 20
        monkeypatch.setattr(PubChemServer, "_look_up", honest)
        assert run(server, source, to).counts["found"] == 150  # nothing was taken for absent


def test_list_that_takes_too_long_is_halved(tmp_path, keys_file, monkeypatch):
    records, keys = made_records(60), keys_of(60, 0)
    honest = PubChemServer._look_up

    def weak(self, namespace, names, operation):
        if len(names) > 40:
            return 504, {"Fault": {"Code": "PUGREST.Timeout", "Message": "Request timed out"}}
        return honest(self, namespace, names, operation)

    monkeypatch.setattr(PubChemServer, "_look_up", weak)
    with PubChemServer(records, SCALE) as server:
        assert run(server, keys_file(keys), tmp_path / "text.parquet").counts["found"] == 60


def test_circuit_breaker(tmp_path, keys_file):
    source, to = keys_file(keys_of(150, 0)), tmp_path / "text.parquet"
    with PubChemServer(made_records(150), 5 * SCALE, script=("", *["504", "429", "dropped"] * 3)) as server:
        with pytest.raises(ServiceDown, match="8 times in a row.*kept in .*same command") as caught:
            run(server, source, to)
        assert "\n" not in str(caught.value) and not to.exists()
        assert len(server.stamps) == 1 + 8
        server.script.clear()
        assert run(server, source, to).counts["found"] == 150
        assert not server.again


def test_command_line(tmp_path, keys_file, capsys, monkeypatch):
    monkeypatch.setattr(Limits, "__init__", _fast_init)
    source, to = keys_file(keys_of(30, 10)), tmp_path / "out" / "text.parquet"
    with PubChemServer(made_records(30), 5 * SCALE) as server:
        assert main(["data", "enrich", str(source), "--to", str(to), "--base-url", server.url]) == 0
        said = capsys.readouterr()
        assert "40 molecules, 40 InChIKeys, 0 known from the cache: 1 to 3 requests, at least" in said.err
        assert "PubChem has 30 of 40 InChIKeys (75.0%)" in said.out
        words = [
            "data",
            "enrich",
            str(source),
            f"data.pubchem.base_url={server.url}",
            "--to",
            str(to),
            "--json",
        ]
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out)["requests"] == 0
        server.script = ["dropped"] * 20
        assert main([*words, "--max-age", "0"]) == 3
        assert "8 times in a row" in capsys.readouterr().err


def _fast_init(self, **given):
    """Every `Limits()` of the command line, a hundred times faster."""
    for name, value in Limits.__dataclass_fields__.items():
        fixed = name in ("per_second", "per_minute", "failures")
        object.__setattr__(self, name, value.default if fixed else value.default / (5 * SCALE))


def test_advises_bulk_files_for_very_many(tmp_path, keys_file):
    said = []
    source = keys_file([made_key(n) for n in range(50_100)])
    with PubChemServer(Records(), SCALE, script=("dropped",) * 8) as server, pytest.raises(ServiceDown):
        config = PubChemConfig(base_url=server.url)
        enrich(source, tmp_path / "text.parquet", config, say=said.append, limits=Limits().faster(200))
    assert "--bulk" in said[1] and "501 to 1,503 requests" in said[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.parquet"], "no file absent.parquet"),
        (["bare.parquet"], "no column 'inchikey'"),
        (["."], "no shard set"),
        (["keys.parquet", "--base-url", "pubchem"], "no address of a web service"),
        (["keys.parquet", "--base-url", "http://localhost:port/rest"], "no address of a web service"),
        (["keys.parquet", "--max-age", "-1"], "data.pubchem.max_age"),
        (["keys.parquet", "data.pubchem.cach=x"], "did you mean 'cache'"),
        (["keys.parquet", "data.pubchem.cache=bare.parquet"], "not a cache of answers"),
        (["keys.parquet", "--to", "bare.parquet"], "was not made by"),
        (["keys.parquet", "--to", "."], "is a folder"),
        (["keys.parquet", "--bulk", "nowhere"], "no folder nowhere"),
        (["keys.parquet", "--bulk", "."], "no CID-InChI-Key.gz"),
        (["keys.parquet", "--bulk", ".", "--max-age", "3"], "--bulk asks no service"),
    ],
)
def test_wrong_input_is_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"inchikey": [made_key(1)]}), "keys.parquet")
    pq.write_table(pa.table({"id": ["a"]}), "bare.parquet")
    to = [] if "--to" in words else ["--to", "text.parquet"]
    assert main(["data", "enrich", *words, *to]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not Path("text.parquet").exists()


def test_redirects_and_caches_in_use(tmp_path, keys_file, monkeypatch):
    source, to = keys_file(keys_of(1, 0)), tmp_path / "text.parquet"
    with PubChemServer(made_records(1), SCALE) as server:
        holder = sqlite3.connect(tmp_path / "pubchem-cache.sqlite")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="in use by another command"):
            run(server, source, to)
        holder.close()

        def elsewhere(self, handler, *ignored):
            handler.send_response(301)
            handler.send_header("Location", "https://example.org/")
            handler.end_headers()

        monkeypatch.setattr(PubChemServer, "answer", elsewhere)
        with pytest.raises(UserError, match=r"redirects to https://example\.org/"):
            run(server, source, to)


def test_redirects_within_the_host_are_followed_and_a_login_page_is_waited_out(tmp_path, keys_file):
    records, keys = made_records(40), keys_of(40, 0)
    source, to = keys_file(keys), tmp_path / "text.parquet"
    with PubChemServer(
        records, 5 * SCALE, script=("moved", "moved", "", "portal", "html", "moved")
    ) as server:
        result = run(server, source, to)
        assert result.counts["requests"] == len(server.stamps) == 3 + 5
        server.assert_polite()
    assert found(to) == expected(records, keys)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (("", *["portal"] * 8), "8 times in a row.*redirect to http://login.example/, which is not followed"),
        (("moved",) * 48, "8 times in a row.*more than 5 redirects in a row"),
        (("html",) * 8, "200 with a web page instead of data: does the network ask for a login"),
    ],
)
def test_a_network_that_asks_for_a_login_stops_the_run_and_says_so(tmp_path, keys_file, script, message):
    source = keys_file(keys_of(1, 0))
    server = PubChemServer(made_records(1), 100 * SCALE, script=script)
    with server, pytest.raises(ServiceDown, match=message):
        run(server, source, tmp_path / "text.parquet")


@pytest.mark.parametrize(
    ("url", "status", "location", "target"),
    [
        ("https://a.org/rest/x", 302, "/pug/x", "https://a.org/pug/x"),
        ("https://a.org/rest/x", 308, "https://A.org:443/x", "https://A.org:443/x"),
        ("http://a.org/x", 301, "https://a.org/x", "https://a.org/x"),
        ("https://a.org/x", 301, "http://a.org/x", None),
        ("http://a.org:8080/x", 301, "https://a.org/x", None),
        ("http://a.org/x", 307, "http://b.org/x", None),
        ("http://a.org/x", 307, "http://a.org:81/x", None),
        ("http://a.org/x", 307, "http://a.org:port/x", None),
        ("http://a.org/x", 307, "ftp://a.org/x", None),
        ("http://a.org/x", 303, "/y", None),
        ("http://a.org/x", 301, None, None),
        ("http://a.org/x", 200, "/y", None),
    ],
)
def test_which_redirects_are_followed(url, status, location, target):
    assert redirect_target(url, status, location) == target


def test_other_users_of_pubchempy_see_nothing():
    import pubchempy

    before = pubchempy.API_BASE, pubchempy.urlopen
    a, b = (Client(f"http://127.0.0.1:{port}/rest/pug/", Limits()) for port in (1, 2))
    assert (pubchempy.API_BASE, pubchempy.urlopen) == before
    assert a.base_url.endswith(":1/rest/pug") and b.base_url.endswith(":2/rest/pug")


@pytest.mark.shared
def test_real_faults_are_understood(shared):
    kinds = {
        "200_server_busy": Kind.FAULT,
        "200_smiles_no_match": Kind.NONE,
        "400_bad_cid": Kind.REFUSED,
        "404_inchikey_not_found": Kind.NONE,
        "404_no_records_for_cid": Kind.NONE,
        "429_request_rate_html": Kind.FAULT,
        "503_server_busy": Kind.FAULT,
    }
    folder = shared / "data/pubchem/raw_json"
    for name, kind in kinds.items():
        case = json.loads((folder / f"faults/{name}.json").read_text())
        body = case.get("body_text") or json.dumps(case["body"])
        assert classify_answer(case["status"], body.encode()).kind is kind, name
    for name in (
        "property_table/kkiyama_aspirin_properties.json",
        "synonyms/metaboidmapper_pubchem_synonyms.json",
    ):
        assert classify_answer(200, (folder / name).read_bytes()).kind is Kind.FOUND


@pytest.mark.shared
def test_real_rows_are_understood(shared):
    from mmgnn_dist.pubchem.answers import rows, text_fields

    body = (shared / "data/pubchem/raw_json/property_table/kkiyama_aspirin_properties.json").read_bytes()
    ((cid, row),) = rows(body)
    fields = text_fields(row)
    assert cid == 2244 and row["inchikey"] == "BSYNRYMUTXBXSQ-UHFFFAOYSA-N"
    assert fields["iupac_name"] == "2-acetyloxybenzoic acid" and fields["tpsa"] == 63.6
    assert fields["molecular_weight"] == "180.16" and fields["smiles"] == "CC(=O)OC1=CC=CC=C1C(=O)O"


def _headers(**fields: str) -> Message:
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


def test_headers_of_the_service():
    later = _headers(Retry_After="Mon, 23 Nov 2026 10:00:30 GMT", Date="Mon, 23 Nov 2026 10:00:00 GMT")
    assert retry_after(later) == 30
    assert retry_after(_headers(Retry_After="7")) == 7
    assert retry_after(_headers(Retry_After="soon")) is None
    throttle = Throttle(Limits().faster(1000))
    throttle.done(
        _headers(X_Throttling_Control="Request Count status: Green (3%), Service status: Red (80%)")
    )
    assert throttle.colour == "red"
    throttle.done(_headers())
    assert throttle.colour == "red"
    throttle.done(_headers(X_Throttling_Control="Request Count status: Green (3%)"))
    assert throttle.colour == "green"


def test_a_wait_that_is_too_long_stops_the_run(tmp_path, keys_file, monkeypatch):
    def closed(self, handler, *ignored):
        self._send(handler, 503, {"Fault": {"Code": "PUGREST.ServerBusy"}}, {"Retry-After": "86400"})

    monkeypatch.setattr(PubChemServer, "answer", closed)
    with PubChemServer(Records(), SCALE) as server, pytest.raises(ServiceDown, match="in 1440 minutes"):
        run(server, keys_file(keys_of(1, 0)), tmp_path / "text.parquet")


def test_answers_without_keys_are_no_answers(tmp_path, keys_file, monkeypatch):
    def nameless(self, namespace, names, operation):
        return 200, {"PropertyTable": {"Properties": [{"CID": 5}]}}

    monkeypatch.setattr(PubChemServer, "_look_up", nameless)
    with PubChemServer(Records(), SCALE) as server, pytest.raises(UserError, match="without its InChIKey"):
        run(server, keys_file(keys_of(1, 0)), tmp_path / "text.parquet")


def test_without_pubchempy(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'mmgnn_dist\[pubchem\]'"):
        Client("http://127.0.0.1:1/rest/pug", Limits())
