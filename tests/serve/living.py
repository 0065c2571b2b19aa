"""The whole loop as real processes: a market that is lived through minute by minute, a collector, a service, runs; and what a batch says of it."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from .served import BROKEN, Served, beside, key_of

ROOT = Path(__file__).parents[2]
STAND_INS = Path(__file__).parent / "stand_ins"
MINUTE = pd.Timedelta("1min")
SPECS = ["returns", "rsi_14", "macd_12_26_9", "volume_ma_20"]
POINT = 0.001
RATES = [("time", "i8"), ("open", "f8"), ("high", "f8"), ("low", "f8"), ("close", "f8"), ("tick_volume", "u8"), ("spread", "i4"), ("real_volume", "u8")]


class Market:
    """Minutes in the past that become the present one after the other: what the stand-ins of clock and terminal show."""
    def __init__(self, folder: Path, bars: pd.DataFrame):
        self.folder, self.bars, self.clock = folder, bars, folder / "clock"
        folder.mkdir(parents=True)
        for symbol, own in bars.groupby("symbol"):
            rates = np.zeros(len(own), dtype=RATES)
            opens = own.ts.dt.as_unit("us").array.asi8 // 1_000_000
            rates["time"] = own.ts.dt.tz_convert("Europe/Athens").dt.tz_localize(None).array.asi8 // 1_000_000  # the server's wall clock
            for name in ("open", "high", "low", "close"): rates[name] = own[name]
            rates["tick_volume"] = own.volume
            rates["spread"] = np.rint(own.spread / POINT)
            np.savez(folder / f"{symbol}.m.npz", rates=rates, opens=opens, point=POINT)

    def at(self, moment: pd.Timestamp):
        """Set the clock: three seconds after the end of a minute."""
        text = f"{(moment + 3 * pd.Timedelta('1s')).timestamp()}\n{time.time()}\n"
        new = self.clock.with_suffix(".new")
        new.write_text(text, encoding="ascii")
        os.replace(new, self.clock)

    @property
    def environment(self) -> dict:
        return {"LOOP_CLOCK": str(self.clock), "LOOP_RATES": str(self.folder), "PYTHONPATH": f"{STAND_INS}{os.pathsep}{ROOT}"}


class Loop:
    """A project of its own in which the loop goes round; `more` are settings (store, store_replica, redis)."""
    def __init__(self, root: Path, bars: pd.DataFrame, **more: str):
        self.bench = beside("pipeline", "conftest.py").Workbench.make(root)
        self.root, self.bars, self.market, self.symbols = root, bars, Market(root / "market", bars), sorted(bars.symbol.unique())
        given = {f"MLFIN_{k.upper()}": v for k, v in more.items()}
        known = {k: v for k, v in os.environ.items() if not k.startswith("MLFIN_")}
        own = given | self.market.environment | {"MLFIN_PROFILE": "test", "MLFIN_ROOT": str(root)}
        self.environment = known | own | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": ""}
        self.server, self.collector, self.told = Served(root, own), None, {}
        self.settings, self.keep, self.kills = self.bench.settings.model_copy(update=more), False, []

    # --- commands
    def begin(self, *words: str, log: str = "command.log") -> subprocess.Popen:
        """A command in a process group of its own."""
        with open(self.root / log, "ab") as out:
            return subprocess.Popen([sys.executable, "-P", "-m", "mlfin", *words], cwd=self.root, env=self.environment, stdin=subprocess.DEVNULL,
                                    stdout=out, stderr=out, start_new_session=True)

    def mlfin(self, *words: str, code: int = 0) -> str:
        """What a command prints; it must end with a code."""
        done = subprocess.run([sys.executable, "-P", "-m", "mlfin", *words], cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == code, f"{words} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def question(self) -> list[str]:
        """The words of the experiment."""
        kernel = beside("pipeline", "conftest.py").KERNEL
        asked = {"source": "store", "symbols": f"[{','.join(self.symbols)}]", "timeframe": "1m", "label": "fwd_ret_1", "features": f"[{','.join(SPECS)}]",
                 "models": "[logistic]", "folds": "3", "executor": "ploomber-engine", "kernel": kernel}
        return [w for k, v in asked.items() for w in ("-p", f"{k}={v}")]

    # --- the pieces
    def key(self) -> Path:
        """A file with a collector's key."""
        path = self.root / "key"
        if not path.exists():
            path.write_text(key_of(self.settings))
            path.chmod(0o600)
        return path

    def collect(self):
        """Start the collector at the stand-in of a terminal."""
        names = ",".join(f"{s}.m={s}" for s in self.symbols)
        self.collector = self.begin("collect", "mt5", "--to", f"http://127.0.0.1:{self.server.port}", "--key-file", str(self.key()), "-s", names, "-t", "1m",
                                    "--tz", "Europe/Athens", "--outbox", "outbox.sqlite", "--every", "0.1", log="collect.log")

    def signals(self) -> list[dict]:
        """What the champions say now; nothing where the service is away."""
        try: status, _, told = self.server.ask("GET", "/v1/signals?timeframe=1m", key=self.key().read_text(), timeout=30)
        except BROKEN: return []
        return told.get("signals", []) if status == 200 else []

    def live(self, minute: pd.Timestamp, seconds: float = 240.0) -> dict:
        """Let a minute end, and wait until each symbol that traded in it has its answer: (symbol, ts) -> signal."""
        self.market.at(minute + MINUTE)
        wanted = {(s, minute) for s in self.bars.symbol[self.bars.ts == minute]}
        end = time.monotonic() + seconds
        while True:
            found = {(s["symbol"], pd.Timestamp(s["ts"])): s for s in self.signals()}
            if wanted <= found.keys() and not any(found[k]["reason"] for k in wanted) and (not self.keep or self.kept(found, wanted)): break
            assert time.monotonic() < end, f"no answer to {minute}: {found}\n{self.said()}"
            self.mend()
            time.sleep(0.2 if self.keep and wanted <= found.keys() else 0.01)
        for key in wanted: self.told.setdefault(key, []).append(found[key])
        return {k: found[k] for k in wanted}

    def kept(self, found: dict, wanted: set) -> bool:
        """Whether the answers stand in the store: what dies between an answer and its record is asked again."""
        there = self.predictions(start=min(at for _, at in wanted)) if wanted else None
        return not wanted or wanted <= {k for k in zip(there.symbol, there.ts, strict=True) if (there.version[there.ts == k[1]] == found[k]["version"]).any()}

    # --- what dies, and is started again
    def kill(self, piece: str):
        """`kill -9` of the collector or of the service with its workers."""
        process = self.collector if piece == "collector" else self.server.running
        if process is None or process.poll() is not None: return
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        self.kills.append(piece)

    def mend(self):
        """Start again what is dead, as whoever looks after it would."""
        if self.server.running is not None and self.server.running.poll() is not None: self.server.start()
        if self.collector is not None and self.collector.poll() is not None: self.collect()

    def killed(self, after: float, *words: str):
        """A command that is killed so many seconds after its start; whether it was still running."""
        process = self.begin(*words)
        try: process.wait(after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
            self.kills.append(words[0])

    def said(self) -> str:
        """The ends of all logs."""
        logs = ("server.log", "collect.log", "command.log")
        return "\n".join(f"--- {name}\n{(self.root / name).read_text()[-1500:]}" for name in logs if (self.root / name).exists())

    def close(self):
        for process in (self.collector, self.server.running):
            if process is not None and process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try: process.wait(60)
                except subprocess.TimeoutExpired: os.killpg(process.pid, signal.SIGKILL)

    # --- what the store has, and what a batch says of it
    def stored(self) -> pd.DataFrame:
        from mlfin.data.ingest import open_store
        return open_store(self.settings).read(self.symbols, "1m")

    def predictions(self, **more) -> pd.DataFrame:
        from mlfin.data.ingest import open_store
        return open_store(self.settings).read_predictions(self.symbols, "1m", **more)

    def batch(self, bars: pd.DataFrame, version: int) -> pd.Series:
        """(symbol, ts) -> probability: features of all bars at once, as research computes them, and a version asked once for all rows."""
        from mlfin.features.table import compute_features
        from mlfin.models.dataset import model_inputs
        from mlfin.models.registry import load_version
        model = load_version(self.settings, "default", version)
        table = compute_features(bars, model.manifest["features"], short="nan", calendar=model.manifest["data"]["calendar"])
        rows = model_inputs(table, bars, model.manifest["features"]).dropna().reset_index(drop=True)
        return pd.Series(model.predict(rows), index=pd.MultiIndex.from_arrays([rows.symbol, rows.ts]))


def same(one: pd.DataFrame, other: pd.DataFrame, columns=("symbol", "timeframe", "ts", "open", "high", "low", "close", "volume", "spread")):
    """Both have the same bars, to the last bit."""
    def sort(frame): return frame[list(columns)].sort_values(["symbol", "ts"], kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(sort(one), sort(other), check_exact=True)


def records(loop: Loop) -> dict[int, dict]:
    """The live records by version, as `mlfin models live` says them."""
    return {r["version"]: r for r in json.loads(loop.mlfin("models", "live", "--json"))["records"]}
