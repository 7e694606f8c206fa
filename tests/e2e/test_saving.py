"""`flaregate results` into files, and `flaregate gc`: from the command line to a gateway's store and back."""

import csv
import json
import stat

import pyarrow.parquet as pq

from tests.conftest import ROOT
from tests.e2e.test_gc import flaregate
from tests.gateway.test_results import SWEEP, SWEPT, ended
from tests.gateway.test_retention import stage
from tests.served import served


async def test_results_are_written_in_the_form_that_is_asked_for(tmp_path):
    async with served(tmp_path / "gateway") as gateway:
        job = await ended(gateway, SWEEP, *SWEPT)
        ask = lambda *words: flaregate(gateway.url, "results", job, *words)  # noqa: E731
        for name in ("all.csv", "all.parquet", "all.ndjson"):
            assert await ask("-o", str(tmp_path / name)) == (0, "", "")
        rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
        assert [row["acc"] for row in rows] == ["0.25", "0.5", "0.75", ""]
        assert (
            pq.read_table(tmp_path / "all.parquet").num_rows
            == len((tmp_path / "all.ndjson").read_text().splitlines())
            == 4
        )
        assert (
            stat.S_IMODE((tmp_path / "all.csv").stat().st_mode)
            == stat.S_IMODE((ROOT / "README.md").stat().st_mode) & 0o644
        )
        code, out, _ = await ask("--group-by", "task", "--format", "json")
        assert (code, [row["acc_mean"] for row in json.loads(out)["rows"]]) == (0, [0.375, 0.75])
        code, out, _ = await ask("--group-by", "task")
        assert (code, out.splitlines()[0]) == (
            0,
            "task,acc_mean,acc_std,steps_mean,steps_std,mean_mean,mean_std,n,failed,best",
        )
        code, out, err = await ask("--group-by", "tusk", "-o", str(tmp_path / "none.csv"))
        assert (code, "did you mean 'task'" in err) == (2, True)
        assert not (tmp_path / "none.csv").exists()
        assert (await ask("--format", "json"))[0] == 2
        assert sorted(file.name for file in tmp_path.iterdir()) == ["all.csv", "all.ndjson", "all.parquet", "gateway"]


async def test_how_long_a_job_is_kept_is_said_on_the_way_in_and_shown(tmp_path):
    async with served(tmp_path / "gateway") as gateway:
        file = str(ROOT / "examples" / "digits.json")
        code, out, _ = await flaregate(gateway.url, "submit", file, "--keep", "3600")
        job = out.strip()
        assert code == 0
        await (await gateway.head(job)).commit()
        await gateway.ended(job)
        code, out, _ = await flaregate(gateway.url, "status", job)
        assert "kept      until 2026-01-01 01:00:00 UTC" in out
        code, _, err = await flaregate(gateway.url, "submit", file, "--keep", "a while")
        assert (code, "forever" in err) == (2, True)


async def test_gc_says_what_it_would_remove_and_then_removes_it(tmp_path):
    async with served(tmp_path / "gateway") as gateway:
        blob = (await stage(gateway, b"of nobody"))["blob"]
        gateway.clock.pass_by(86_401)
        for words in (("--dry-run",), ()):
            code, out, err = await flaregate(gateway.url, "gc", "--output", "json", *words)
            assert (code, err) == (0, "")
            found = {item["kind"]: item for item in json.loads(out)["found"]}
            assert found["blobs"] == {"kind": "blobs", "count": 1, "size": 9, "examples": [blob]}
        code, out, _ = await flaregate(gateway.url, "gc")
        assert (code, [line.split()[:2] for line in out.splitlines()[1:]]) == (
            0,
            [[kind, "0"] for kind in ("uploads", "blobs", "jobs", "cache", "objects", "packages")],
        )
        assert (await flaregate(gateway.url, "gc", "--dry-run", "--from", "job-1"))[0] == 2
