"""Where packages keep their own files when the home folder cannot be written."""
import os
import runpy
import sys

import numba
import pytest

from mlfin.core.settings import quiet_environment


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep caches elsewhere")
@pytest.mark.parametrize("beside", [True, False])
def test_numba_looks_beside_the_module_first_and_needs_no_home(tmp_path, monkeypatch, beside):
    (tmp_path / "home").write_text("a file")
    (tmp_path / "temporary").mkdir()
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "one.py").write_text("def one(x): return x + 1\n")
    if not beside: (tmp_path / "code" / "__pycache__").write_text("a file")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    known = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    monkeypatch.setattr(os, "environ", known | {"HOME": str(tmp_path / "home")})
    quiet_environment()
    monkeypatch.setattr(numba.config, "CACHE_DIR", os.environ.get("NUMBA_CACHE_DIR", ""))
    with monkeypatch.context() as patch:
        patch.setattr(os, "getenv", os.environ.get)
        kept = numba.njit(cache=True)(
            runpy.run_path(str(tmp_path / "code" / "one.py"))["one"]
        )._cache.cache_path
    assert kept.startswith(str(tmp_path / ("code" if beside else "temporary")))


@pytest.mark.parametrize("planted", ["open to all", "a link", "a file", "somebody else's"])
def test_a_folder_that_others_can_write_to_is_no_cache(tmp_path, monkeypatch, planted):
    """In a temporary folder anybody may be first: what lies there would be unpickled by Numba and run by
    IPython."""
    (tmp_path / "home").write_text("a file")
    (shared := tmp_path / "temporary").mkdir()
    (tmp_path / "theirs").mkdir()
    place = shared / f"mlfin-{os.getuid()}"
    if planted == "a link": place.symlink_to(tmp_path / "theirs")
    elif planted == "a file": place.write_text("")
    else: place.mkdir()
    if planted == "open to all": place.chmod(0o777)
    if planted == "somebody else's":
        own = os.getuid()
        place.rename(place := shared / f"mlfin-{own + 1}")
        monkeypatch.setattr(os, "getuid", lambda: own + 1)
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    monkeypatch.setattr(
        os,
        "environ",
        {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "IPYTHONDIR")}
        | {"HOME": str(tmp_path / "home")},
    )
    quiet_environment()
    used = [os.path.dirname(os.environ[name]) for name in ("XDG_CACHE_HOME", "IPYTHONDIR")]
    assert len(set(used)) == 1 and used[0].startswith(str(shared)) and used[0] != str(place)
    assert os.stat(used[0]).st_mode & 0o077 == 0
