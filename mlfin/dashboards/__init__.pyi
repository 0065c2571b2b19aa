# Made by env/stubs from __init__.py; do not edit.
from mlfin.dashboards.operations import operations_page as operations_page
from mlfin.dashboards.pages import HomePage as HomePage
from mlfin.dashboards.pages import TradingPage as TradingPage
from mlfin.dashboards.voila_server import serve_dashboards as serve_dashboards
from mlfin.dashboards.widgets import Run as Run
from mlfin.dashboards.widgets import load_run as load_run
from mlfin.dashboards.widgets import published_runs as published_runs

__all__ = [
    "HomePage",
    "Run",
    "TradingPage",
    "load_run",
    "operations_page",
    "published_runs",
    "serve_dashboards",
]
