"""The Python client of the service, and the collector that sends bars to it."""

from importlib import import_module

_HOME = {
    "BarsSource": "bar_sources",
    "Client": "client",
    "Collector": "collector",
    "MetaTraderSource": "metatrader",
    "NoAnswerError": "client",
    "Outbox": "outbox",
    "OutboxFull": "outbox",
    "ServiceError": "client",
    "follow": "bar_sources",
    "in_process_client": "in_process",
    "rates_bars": "metatrader",
    "server_utc": "metatrader",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
