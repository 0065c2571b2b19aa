"""What the notebooks in `dashboards/` show."""

from importlib import import_module

_HOME = {
    "HomePage": "pages",
    "Run": "widgets",
    "TradingPage": "pages",
    "load_run": "widgets",
    "operations_page": "operations",
    "published_runs": "widgets",
    "serve_dashboards": "voila_server",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
