"""A seal needs the key: which is made once, is its owner's alone, and can be changed without losing what it
sealed."""
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfin.core.errors import DataError, SettingsError
from mlfin.core.seals import SealKeys, begin_rotation, end_rotation, seal_keys
from mlfin.core.settings import load_settings

ROOT = Path(__file__).parents[2]
KEY, OTHER = "k" * 32, "o" * 40


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("MLFIN_SEAL_KEY", "MLFIN_SEAL_KEY_FILE"): monkeypatch.delenv(name, raising=False)


@pytest.fixture
def keys(tmp_path): return SealKeys(tmp_path / "profile" / "seal_keys.json")


def test_looking_makes_no_key_and_nothing_fits_without_one(keys):
    assert keys.all() == keys.names() == () and not keys.verify("model", 1, "")
    assert not keys.verify("model", 1, "a:" + "0" * 64)
    assert not keys.path.parent.exists()


def test_the_key_is_its_owner_s_alone(keys):
    keys.path.parent.mkdir(mode=0o775)
    before = os.umask(0)
    try: keys.sign("model", 1)
    finally: os.umask(before)
    assert [oct(p.stat().st_mode & 0o777) for p in (keys.path, keys.path.parent)] == ["0o600", "0o700"]
    assert all(p.stat().st_mode & 0o077 == 0 for p in keys.path.parent.iterdir())
    for mode in (0o640, 0o604, 0o660):
        keys.path.chmod(mode)
        with pytest.raises(SettingsError, match=rf"can be read by others \(mode {mode:o}\).*\n.*chmod 600"):
            SealKeys(keys.path).verify("model", 1, "x")
        with pytest.raises(SettingsError, match="can be read by others"):
            keys.all()  # what was read before is not believed either


def test_a_link_or_somebody_else_s_file_is_no_key(keys, monkeypatch):
    sealed = keys.sign("model", 1)
    real = keys.path.with_name("real.json")
    keys.path.rename(real)
    keys.path.symlink_to(real)
    with pytest.raises(DataError, match="cannot be read: OSError"): keys.all()
    keys.path.unlink()
    real.rename(keys.path)
    assert SealKeys(keys.path).verify("model", 1, sealed)
    monkeypatch.setattr(os, "geteuid", lambda: keys.path.stat().st_uid + 1)
    if keys.path.stat().st_uid:
        with pytest.raises(SettingsError, match="belong to another user"): SealKeys(keys.path).all()
    else:
        os.chown(keys.path, 4242, -1)
        with pytest.raises(SettingsError, match="belong to another user"): SealKeys(keys.path).all()


@pytest.mark.parametrize(
    "content", ["", "{}", '{"keys": []}', '{"keys": ["00"]}', '{"keys": "no"}', '{"keys": [1]}']
)
def test_a_damaged_file_is_said_and_never_replaced(keys, content):
    keys.sign("model", 1)
    keys.path.write_text(content)
    for use in (keys.all, lambda: keys.sign("model", 1), lambda: begin_rotation(keys)):
        with pytest.raises(DataError, match="cannot be read|too short"): use()
    assert keys.path.read_text() == content


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_seal_fits_its_own_purpose_and_content_alone(tmp_path_factory, one, two):
    keys = SealKeys(tmp_path_factory.getbasetemp() / "property" / "seal_keys.json")
    sealed = keys.sign("model", {"a": one, "b": two})
    assert keys.verify("model", {"b": two, "a": one}, sealed)
    assert not keys.verify("fold", {"a": one, "b": two}, sealed)
    if two: assert not keys.verify("model", {"a": one + two, "b": ""}, sealed)
    assert not keys.verify("model", {"a": one, "b": two}, sealed[:-1] + ("0" if sealed[-1] != "0" else "1"))


def test_the_name_of_the_key_in_a_seal_decides_nothing(keys, tmp_path):
    other = SealKeys(tmp_path / "other" / "seal_keys.json")
    mac = other.sign("model", 1).partition(":")[2]
    keys.sign("model", 1)
    assert not keys.verify("model", 1, f"{keys.names()[0]}:{mac}")
    for odd in ("", ":", "é" * 64, f"{keys.names()[0]}:", "x" * 100_000):
        assert keys.verify("model", 1, odd) is False


def test_many_at_once_make_one_key(tmp_path):
    path = tmp_path / "profile" / "seal_keys.json"
    code = f"from mlfin.core.seals import SealKeys\nprint(SealKeys({str(path)!r}).sign('model', 1))"
    children = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(3)
    ]
    seals, start = [], threading.Barrier(8)

    def sign():
        start.wait()
        seals.append(SealKeys(path).sign("model", 1))

    threads = [threading.Thread(target=sign) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    seals += [child.communicate(timeout=60)[0].strip() for child in children]
    assert len(seals) == 11 and len(set(seals)) == 1 and len(json.loads(path.read_text())["keys"]) == 1


def test_keys_of_the_environment_come_first_and_are_not_written(keys, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFIN_SEAL_KEY", KEY)
    sealed = keys.sign("model", 1)
    assert keys.given and not keys.path.exists() and KEY not in repr(keys) and KEY not in sealed
    monkeypatch.setenv("MLFIN_SEAL_KEY", f"{OTHER} {KEY}")
    assert keys.verify("model", 1, sealed) and keys.sign("model", 1) != sealed
    monkeypatch.setenv("MLFIN_SEAL_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(SettingsError, match="both set"): keys.all()
    monkeypatch.delenv("MLFIN_SEAL_KEY")
    with pytest.raises(SettingsError, match="MLFIN_SEAL_KEY_FILE names cannot be read"): keys.all()
    (tmp_path / "key").write_text(KEY + "\n")
    assert keys.verify("model", 1, sealed)
    (tmp_path / "key").write_text("short")
    with pytest.raises(SettingsError, match="at least 32 bytes") as e: keys.all()
    assert "short" not in str(e.value)


def test_rotating_keys_of_the_environment_needs_two(keys, monkeypatch):
    monkeypatch.setenv("MLFIN_SEAL_KEY", KEY)
    with pytest.raises(SettingsError, match="put a new one before it in MLFIN_SEAL_KEY"): begin_rotation(keys)
    monkeypatch.setenv("MLFIN_SEAL_KEY", f"{OTHER} {KEY}")
    assert begin_rotation(keys) == keys.names()[0] and end_rotation(keys) == 0


def test_a_full_disk_leaves_the_old_keys(keys, monkeypatch):
    sealed = keys.sign("model", 1)
    monkeypatch.setattr(
        "mlfin.core.seals.json.dump", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(DataError, match="No space left"): begin_rotation(keys)
    assert keys.verify("model", 1, sealed) and len(keys.names()) == 1


def test_the_variables_are_no_unknown_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFIN_SEAL_KEY", KEY)
    settings = load_settings("test", root=ROOT)
    assert KEY not in repr(settings)
    assert seal_keys(settings).path == ROOT / ".mlfin" / "test" / "seal_keys.json"
