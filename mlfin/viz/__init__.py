"""What people see of finished runs: tables and figures, dashboards, and the server that shows them."""

from importlib import import_module

_HOME = {
    "Run": "widgets",
    "home_page": "pages",
    "load_run": "widgets",
    "operations_page": "operations",
    "published_runs": "widgets",
    "serve_dashboards": "serve",
    "trading_page": "pages",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
