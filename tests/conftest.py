"""What holds for every test: the test profile, one thread, no telemetry, no network, the same examples each time."""
import os
import socket

for name in [name for name in os.environ if name.startswith("MLFIN_")]:
    del os.environ[name]  # what is set outside must not decide what a test sees
os.environ.update(
    MLFIN_PROFILE="test", JOBLIB_MULTIPROCESSING="0", KERAS_BACKEND="jax", MLFLOW_DISABLE_TELEMETRY="true",
    OMP_NUM_THREADS="1", PLOOMBER_STATS_ENABLED="false", PLOTLY_RENDERER="plotly_mimetype")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process that a test starts compiles all it imports

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("mlfin", derandomize=True, deadline=None)
settings.load_profile("mlfin")


def _is_local(address) -> bool:
    host = address[0] if isinstance(address, tuple) else ""  # a path is a Unix socket
    return str(host).startswith("127.") or host in ("localhost", "::1", "")


@pytest.fixture(autouse=True)
def no_network(request, monkeypatch):
    """Let nothing reach further than this machine."""
    def refusing(connect):
        def checked(self, address, *rest):
            if not _is_local(address):
                raise PermissionError(f"{request.node.nodeid} tried to reach {address!r}; tests stay on this machine")
            return connect(self, address, *rest)
        return checked

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refusing(getattr(socket.socket, name)))
