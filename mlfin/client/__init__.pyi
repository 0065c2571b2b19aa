# Made by env/stubs from __init__.py; do not edit.
from mlfin.client.bar_sources import BarsSource as BarsSource
from mlfin.client.bar_sources import follow as follow
from mlfin.client.client import Client as Client
from mlfin.client.client import NoAnswerError as NoAnswerError
from mlfin.client.client import ServiceError as ServiceError
from mlfin.client.collector import Collector as Collector
from mlfin.client.in_process import in_process_client as in_process_client
from mlfin.client.metatrader import MetaTraderSource as MetaTraderSource
from mlfin.client.metatrader import rates_bars as rates_bars
from mlfin.client.metatrader import server_utc as server_utc
from mlfin.client.outbox import Outbox as Outbox
from mlfin.client.outbox import OutboxFull as OutboxFull

__all__ = [
    "BarsSource",
    "Client",
    "Collector",
    "MetaTraderSource",
    "NoAnswerError",
    "Outbox",
    "OutboxFull",
    "ServiceError",
    "follow",
    "in_process_client",
    "rates_bars",
    "server_utc",
]
