"""Completion as a person has it: installed by the command's own option into an interactive shell on a
terminal, and asked for with the Tab key."""
import os
import pty
import re
import select
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
SHELLS = ("bash", "zsh", "fish")
ESCAPES = re.compile(r"\x1b\[[0-9;?<>=]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
                     r"|\x1b[()][0-9A-Za-z]|\x1b[=>]|[\x07\x0e\x0f]")


class Terminal:
    """A shell on a terminal of its own."""
    def __init__(self, descriptor: int): self.descriptor, self.seen = descriptor, ""

    def type(self, keys: str): os.write(self.descriptor, keys.encode())

    def wait(self, *patterns: str, seconds: float = 90.0):
        """Read until all patterns were shown since the last look; the text."""
        end, new = time.monotonic() + seconds, b""
        while True:
            shown = ESCAPES.sub("", new.decode(errors="replace")).replace("\r", "")
            if all(re.search(p, shown, re.MULTILINE) for p in patterns): break
            assert time.monotonic() < end, f"not shown: {patterns}\n{shown[-3000:]!r}"
            if select.select([self.descriptor], [], [], 0.2)[0]: new += os.read(self.descriptor, 65536)
        return shown


@contextmanager
def terminal(shell: str, home: Path):
    """An interactive shell that reads what a home has for it."""
    known = {
        k: v for k, v in os.environ.items() if not k.startswith(("MLFIN_", "XDG_", "ZDOTDIR", "BASH_ENV"))
    }
    environment = known | {
        "HOME": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "TERM": "xterm",
        "COLUMNS": "200",
    }
    process, descriptor = pty.fork()
    if process == 0:
        os.chdir(home)
        os.execvpe(shell, [shell, "-i"], environment)
    try: yield Terminal(descriptor)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(descriptor)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_tab_key_completes_commands_and_options(tmp_path, shell):
    if shutil.which(shell) is None: pytest.skip(f"needs {shell}: env/install-services")
    if shell == "zsh":
        (tmp_path / ".zshrc").touch()  # else it asks a new user what to write there
    with terminal(shell, tmp_path) as screen:
        screen.type("mlfin --install-completion; echo DO''NE\n")
        screen.wait(f"^{shell} completion installed", "^DONE$")
    with terminal(shell, tmp_path) as screen:
        screen.type("echo RE''ADY\n")
        screen.wait(r"^READY$")
        for typed, whole in (
            ("mlfin ret", "mlfin retrain"),
            ("mlfin run --ex", "mlfin run --experiment"),
            ("mlfin data sh", "mlfin data show"),
        ):
            screen.type(f"{typed}\t\x01echo '<\x05>'\n")  # Tab; then the line as it stands between '< and >'
            screen.wait(f"^<{whole} ?>$")
        screen.type("mlfin re\t\t")
        screen.wait(r"\breproduce\b", r"\bretrain\b")
