"""What a reader says of a file that it does not recognise: its name and what was expected, never a word of
what stands in it."""
import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from mlfin.core.errors import MlfinError
from mlfin.core.pipeline_spec import read_yaml
from mlfin.core.provenance import read_json
from mlfin.files.raw_files import raw_file
from mlfin.ingest.store_update import update
from mlfin.sources.sources import read_bars, read_parts
from mlfin.sources.rest import rest_mapping

WORD = "hunter2swordfish"
HEAD = "timestamp,open,high,low,close,volume\n"


def _parquet(**columns) -> bytes:
    out = io.BytesIO()
    pd.DataFrame(columns).to_parquet(out)
    return out.getvalue()


def _zip(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive: archive.writestr(name, data)
    return out.getvalue()


TEXTS = {
    "keys": json.dumps({"keys": [WORD, WORD]}),
    "a line": WORD,
    "two lines": f"{WORD}\n{WORD}\n",
    "a token": f'"{WORD}"',
    "lines of JSON": f'{{"{WORD}": 1}}\n{{"{WORD}": 2}}',
    "pairs": f"user={WORD}\npassword={WORD}",
    "a table": f"user,{WORD}\nann,{WORD}\n",
    "nested": json.dumps({WORD: {"a": [WORD]}}),
    "list": json.dumps([WORD]),
    "arrays": json.dumps([[WORD, 1, 2, 3, 4, 5]]),
    "array of odd": json.dumps([[WORD], [1, 2], WORD]),
    "records": json.dumps([{"password": WORD}]),
    "columns": json.dumps({"open": [WORD], "high": {WORD: 1}, "low": 1, "close": WORD}),
    "a bad row": f"{HEAD}{WORD},{WORD},1,1,1,1\n",
    "a long row": f"{HEAD}{WORD},1,1,1,1,1,{WORD},{WORD}\n",
    "a broken row": f'{HEAD}2024-01-01,1,1,1,1,"{WORD}\n{WORD}',
    "a wide header": f"open,high,low,close,{WORD},\n1,2,3,4,5,6,7,8,9\n1,2,3,4,5,6,7,8,9\n",
    "yaml": f"password: '{WORD}\n  {WORD}: [",
    "cut JSON": f'{{"open": ["{WORD}"',
    "klines": f"1637971200000,{WORD},1,1,1,1,1637971259999,1,1,1,1,0\n",
    "names": json.dumps({"columns": [WORD, "x"], "data": [[1, 2, 3]]}),
}
FILES = {
    f"{name}.{kind}": text.encode()
    for name, text in TEXTS.items()
    for kind in ("csv", "json", "parquet", "feather")
} | {
    "torn.csv.gz": gzip.compress((WORD * 900).encode())[:-9],
    "no.csv.gz": WORD.encode(),
    "no.zip": WORD.encode(),
    "no.csv.zst": WORD.encode(),
    "in.csv.zip": _zip("x.csv", TEXTS["a table"].encode()),
    "in.csv.gz": gzip.compress(TEXTS["a table"].encode()),
    "frame.parquet": _parquet(**{WORD: [WORD]}),
    "bad frame.parquet": _parquet(open=[WORD], high=[WORD], low=[WORD], close=[WORD], ts=[WORD]),
    "bytes.csv": b"\xff\xfe\x00" + WORD.encode("utf-16"),
    "latin.csv": f"{HEAD}".encode() + b"\xff\xfe" + WORD.encode() + b",1,1,1,1,1\n",
}


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_reader_repeats_a_file(tmp_path, name):
    (file := tmp_path / name).write_bytes(FILES[name])
    kind = (
        "zip"
        if name.endswith(".zip")
        else name.split(".")[-1]
        if name.split(".")[-1] in ("csv", "json", "parquet", "feather")
        else "csv"
    )
    for source in (kind if kind != "zip" else "files",):
        for read in (read_bars, lambda *a, **k: list(read_parts(*a, **k))):
            with pytest.raises(MlfinError) as told: read(f"{source}:{file}", "X", timeframe="1d", tz="UTC")
            assert WORD not in str(told.value), (source, str(told.value))


def test_nor_does_what_ingest_says_of_it(tmp_path):
    (tmp_path / "keys.json").write_text(TEXTS["keys"])
    done = update("json", tmp_path / "keys.json", ["X"], store=tmp_path / "lake")
    assert done.failed and WORD not in done.series.to_csv() and "keys.json" in done.series.error.iloc[0]


@pytest.mark.parametrize("text", sorted(TEXTS))
def test_nor_do_mappings_and_documents(tmp_path, text):
    (file := tmp_path / "x.yaml").write_text(TEXTS[text])
    for read in (rest_mapping, read_yaml, read_json):
        try: read(file)
        except MlfinError as e: assert WORD not in str(e), (read, str(e))


def test_what_is_kept_of_a_file_is_its_owners(tmp_path):
    before = os.umask(0o022)
    try:
        (tmp_path / "bars.csv").write_text(
            HEAD + "".join(f"2024-01-{d:02},1,2,1,1.5,5\n" for d in range(1, 9))
        )
        done = update("csv", tmp_path / "bars.csv", ["X"], tz="UTC", store=tmp_path / "lake")
        kept = raw_file(done.origin.split(", ")[0], tmp_path / "lake" / "raw")
        assert [oct(Path(p).stat().st_mode & 0o777) for p in (kept, kept.parent, kept.parent.parent)] == [
            "0o600",
            "0o700",
            "0o700",
        ]
    finally: os.umask(before)


def test_a_pattern_leaves_hidden_files_alone(tmp_path):
    for name in ("A.csv", ".B.csv"):
        (tmp_path / name).write_text(HEAD + "2024-01-01,1,2,1,1.5,5\n2024-01-02,1,2,1,1.5,5\n")
    assert set(read_bars(f"{tmp_path}/*.csv", timeframe="1d", tz="UTC").bars.symbol) == {"A"}
