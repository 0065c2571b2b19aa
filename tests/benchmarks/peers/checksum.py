"""A checksum of bars that both sides of a comparison compute, each with its own pandas."""
import hashlib

import numpy as np
import pandas as pd

PRICES = ("open", "high", "low", "close", "volume")


def of_bars(bars: pd.DataFrame) -> str:
    """Of the symbols, the moments and the prices to the last bit, whatever the order of rows."""
    bars = bars.sort_values(["symbol", "ts"], kind="stable")
    found = hashlib.sha256(pd.factorize(bars.symbol.astype(str))[0].astype(np.int32).tobytes())
    found.update(pd.DatetimeIndex(bars.ts).as_unit("us").asi8.tobytes())
    for name in PRICES: found.update(bars[name].to_numpy(dtype=np.float64).tobytes())
    return found.hexdigest()[:16]
