"""`mlfin serve` in a process of its own, for tests that need a socket, and a server that answers as it is told."""
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parents[2]


def as_project(folder: Path) -> Path:
    """A folder that mlfin takes for a project."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("settings.ini", "env.yaml", "pipeline.yaml"):
        if not (folder / name).exists():
            shutil.copy(ROOT / name, folder)
    return folder


@contextmanager
def serving(folder: Path, seconds: float = 120.0, **environment):
    """(address, process) of the test profile's service; it is ended at the end."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("MLFIN_")}
    known |= {"PYTHONPATH": str(ROOT), "MLFIN_ROOT": str(folder), "MLFIN_PROFILE": "test", "COLUMNS": "200"} | environment
    log = folder / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "mlfin", "serve", "--port", "0"], cwd=folder, env=known, stdout=out, stderr=subprocess.STDOUT)
    try:
        end, found = time.monotonic() + seconds, None
        while found is None:
            found = re.search(r"Serving (http://[\d.:]+)/v1", log.read_text())
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield found[1], process
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@contextmanager
def told(*answers):
    """(address, asked): a server that gives (status, message, headers) in turn, the last one for ever; None: it hangs up."""
    asked, left = [], list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            asked.append((self.command, self.path, body.decode(), dict(self.headers)))
            said = left.pop(0) if len(left) > 1 else left[0]
            if said is None:
                self.close_connection = True
                return
            status, message, headers = (*said, {}, {})[:3]
            data = message.encode() if isinstance(message, str) else json.dumps(message).encode()
            self.send_response(status)
            for name, value in ({"content-type": "application/json", "content-length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
