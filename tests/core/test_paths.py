"""Which files a request may read, as a stranger would try it; and files that are nobody's but their
owner's."""
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from mlfin.core import paths
from mlfin.core.errors import ParameterError, SettingsError
from mlfin.core.paths import check_path, may_read, open_data, require_allowed
from mlfin.core.permissions import check_home, make_private, private_files
from mlfin.core.settings import load_settings

ROOT = Path(__file__).parents[2]
SECRET = b"s3cret"


@pytest.fixture
def place(tmp_path):
    """A project with a folder `in` that requests may read, beside a folder `out` with secrets."""
    for name in ("settings.ini", "env.yaml", "pipeline.yaml"): shutil.copy(ROOT / name, tmp_path)
    for name in ("in/deep", "in/.hidden", "out", ".mlfin/test/lake"): (tmp_path / name).mkdir(parents=True)
    for name in ("in/bars.csv", "in/deep/bars.csv", "in/.hidden/bars.csv", "in/.bars.csv"):
        (tmp_path / name).write_bytes(b"fine")
    for name in ("out/secret.csv", ".mlfin/test/keys.json", ".mlfin/test/accounts.sqlite-wal"):
        (tmp_path / name).write_bytes(SECRET)
    (tmp_path / "in/link.csv").symlink_to(tmp_path / "out/secret.csv")
    (tmp_path / "in/way").symlink_to(tmp_path / "out")
    (tmp_path / "in/inner.csv").symlink_to(tmp_path / "in/bars.csv")
    return tmp_path


@pytest.fixture
def settings(place):
    return load_settings("test", place).model_copy(update={"data_dirs": (str(place / "in"),)})


@pytest.fixture
def working(place, monkeypatch):
    """This process works for a request."""
    given = {"CONFINED": "1", "ROOT": str(place), "PROFILE": "test", "DATA_DIRS": str(place / "in")}
    for name, value in given.items(): monkeypatch.setenv(f"MLFIN_{name}", value)
    paths._profile_settings.cache_clear()
    yield
    paths._profile_settings.cache_clear()


GOOD = (
    "in/bars.csv",
    "in/deep/bars.csv",
    "in/inner.csv",
    "./in/deep/../bars.csv",
    "in/*.csv",
    "in",
    "in/x.zip#member",
)
BAD = (
    "out/secret.csv",
    "in/link.csv",
    "in/way/secret.csv",
    "in/../out/secret.csv",
    "in/way/../out/secret.csv",
    "in/.hidden/bars.csv",
    "in/.bars.csv",
    ".mlfin/test/keys.json",
    ".mlfin/test/accounts.sqlite-wal",
    "settings.ini",
    "out",
    "out/*.csv",
    "../x.csv",
    "/etc/passwd",
    "/proc/self/root/etc/passwd",
    "/proc/self/environ",
    "/dev/zero",
    "....//....//etc/passwd",
    "%2e%2e/out/secret.csv",
    "$HOME/x.csv",
    "IN/bars.csv",
    "in/../.MLFIN/test/keys.json",
    "in\u2215..\u2215out/secret.csv",
    "\uff0e\uff0e/out/secret.csv",
    "in2/bars.csv",
    "x.zip#../../in/bars.csv",
    "out/nothing.csv",
)
STRANGE = (
    "~/x.csv",
    "~root/x.csv",
    "file:///etc/passwd",
    "http://service.example/x.csv",
    "s3://bucket/x",
    "in/a\0b.csv",
    "in/a\nb.csv",
    "{{cwd}}/x.csv",
    "",
    "in/" + "x" * 5000,
    None,
    7,
    ["in/bars.csv"],
    "in/\ud800.csv",
)


@pytest.mark.parametrize("path", GOOD)
def test_what_lies_in_an_allowed_folder_may_be_read(settings, path):
    assert check_path(path, settings) == path and check_path(f"{settings.root}/{path}", settings)


@pytest.mark.parametrize("path", BAD)
def test_what_lies_elsewhere_may_not(settings, path):
    with pytest.raises(ParameterError, match="folders that requests may read") as told:
        check_path(path, settings)
    assert "s3cret" not in str(told.value)
    with pytest.raises(ParameterError): check_path(path, settings.model_copy(update={"data_dirs": ()}))


@pytest.mark.parametrize("path", STRANGE)
def test_what_is_no_plain_path_is_refused(settings, path):
    with pytest.raises(ParameterError, match="a plain path"): check_path(path, settings)


def test_a_refusal_does_not_tell_whether_there_is_a_file(settings, place):
    told = []
    for path in ("out/secret.csv", "out/nobody.csv"):
        with pytest.raises(ParameterError) as error: check_path(path, settings)
        told.append(str(error.value).replace(path, "PATH"))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "folders",
    [("/",), ("{root}",), ("{root}/.mlfin",), ("{root}/.mlfin/test",), ("/", "{root}/.mlfin/test/lake")],
)
def test_what_the_profile_keeps_is_never_read(settings, place, folders):
    open_ = settings.model_copy(
        update={
            "data_dirs": tuple(f.format(root=place) for f in folders),
            "accounts": f"sqlite:///{place}/out/accounts.sqlite",
            "store": f"{place}/lake",
            "tls_key": f"{place}/out/key.pem",
        }
    )
    for path in (
        ".mlfin/test/keys.json",
        ".mlfin/test/accounts.sqlite-wal",
        ".mlfin/x",
        "out/accounts.sqlite",
        "out/accounts.sqlite-wal",
        "lake/raw/ab/abc.csv",
        "out/key.pem",
    ):
        assert not may_read(place / path, open_), path
    assert not may_read(Path("/proc/self/environ"), open_)


def test_what_the_operator_wrote_into_env_yaml_is_allowed(place):
    settings, text = load_settings("test", place), (place / "env.yaml").read_text()
    def asks(path):
        (place / "env.yaml").write_text(text.replace("mlfin/sources/builtin/us_equities.parquet", path))
        os.utime(place / "env.yaml", ns=(1, hash(path) % 10**15))
    asks("out/secret.csv")
    assert check_path("out/secret.csv", settings) and not may_read(place / "in/bars.csv", settings)
    asks("in")
    assert may_read(place / "in/bars.csv", settings) and not may_read(place / "in/.hidden/bars.csv", settings)
    with pytest.raises(ParameterError): check_path("in/link.csv", settings)
    asks(".mlfin/test/keys.json")
    assert not may_read(place / ".mlfin/test/keys.json", settings)  # not even so


def test_opening_looks_at_what_was_opened(place, working):
    with open_data(place / "in/inner.csv") as file: assert file.read() == b"fine"
    os.mkfifo(place / "in/pipe.csv")
    for name in (
        "in/link.csv",
        "in/way/secret.csv",
        "in/.bars.csv",
        "out/secret.csv",
        ".mlfin/test/keys.json",
        "in/pipe.csv",
        "in/deep",
    ):
        with pytest.raises(ParameterError, match="folders that requests may read"): open_data(place / name)
    with pytest.raises(ParameterError): require_allowed(place / "out" / "*.csv")
    with pytest.raises(FileNotFoundError): open_data(place / "in/nothing.csv")


def test_a_link_that_comes_between_the_look_and_the_opening(place, working, monkeypatch):
    """The race itself, and not by chance: the file becomes a link after every check of its name."""
    real, victim = os.open, place / "in/bars.csv"

    def late(path, flags, *more, **how):
        if Path(path) == victim:
            victim.unlink()
            victim.symlink_to(place / "out/secret.csv")
        return real(path, flags, *more, **how)
    monkeypatch.setattr(paths.os, "open", late)
    with pytest.raises(ParameterError, match="folders that requests may read"): open_data(victim)


def test_a_race_is_never_won(place, working):
    victim, spare, end, seen = place / "in/race.csv", place / "in/spare.csv", threading.Event(), []
    victim.write_bytes(b"fine")

    def swap():
        while not end.is_set():
            for make in (
                lambda: spare.symlink_to(place / "out/secret.csv"),
                lambda: spare.write_bytes(b"fine"),
            ):
                make()
                os.replace(spare, victim)
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(300):
            try:
                with open_data(victim) as file: seen.append(file.read())
            except (ParameterError, FileNotFoundError): seen.append(None)
    finally:
        end.set()
        thread.join()
    assert SECRET not in seen


def test_a_hard_link_cannot_be_told_from_a_file(settings, place):
    """A limit, said in the notebook: who may make hard links in an allowed folder decides what is read
    there."""
    os.link(place / "out/secret.csv", place / "in/hard.csv")
    assert may_read(place / "in/hard.csv", settings)


# ---- files of their owner alone

def modes(folder: Path) -> set[str]:
    return {oct(stat.S_IMODE(p.lstat().st_mode)) for p in (folder, *folder.rglob("*"))}


def test_what_was_open_before_is_closed(settings, place):
    for name in (
        "jobs.sqlite",
        "jobs.sqlite-wal",
        "jobs.sqlite-shm",
        "mlflow.db-journal",
        "trials.sqlite",
        "logs/access.log",
        "lake/raw/ab/abc.csv",
    ):
        (path := place / ".mlfin/test" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        path.chmod(0o664)
    (place / ".mlfin/test/keys.json").unlink()
    (place / ".mlfin/test/away").symlink_to(place / "out")
    outside = place / "out/accounts.sqlite"
    for ending in ("", "-wal"): Path(f"{outside}{ending}").write_text("x")
    elsewhere = settings.model_copy(update={"accounts": f"sqlite:///{outside}"})
    before = modes(place / "out")
    assert make_private(elsewhere) > 8 and make_private(elsewhere) == 0
    (place / ".mlfin/test/away").unlink()
    assert modes(place / ".mlfin") == {"0o700", "0o600"}
    assert [oct(Path(f"{outside}{e}").stat().st_mode & 0o777) for e in ("", "-wal")] == ["0o600"] * 2
    assert (
        before - modes(place / "out") == set() and (place / "out/secret.csv").stat().st_mode & 0o044
    )  # links were not followed


def test_a_secret_that_was_open_is_left_to_a_person(settings, place):
    """Closing it would hide that it must be renewed: `mlfin serve` refuses it where it is read."""
    (place / ".mlfin/test/keys.json").chmod(0o644)
    make_private(settings)
    assert (place / ".mlfin/test/keys.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away"
)
@pytest.mark.parametrize("which", [".mlfin", ".mlfin/test"])
def test_a_folder_of_somebody_else_is_refused(settings, place, which):
    check_home(settings)
    os.chown(place / which, 12345, 12345)
    for look in (check_home, make_private):
        with pytest.raises(SettingsError, match="belongs to another user"): look(settings)


def test_a_project_that_keeps_nothing_yet_has_nothing_to_close(settings, place):
    shutil.rmtree(place / ".mlfin")
    check_home(settings)
    assert make_private(settings) == 0


def test_a_file_in_the_place_of_the_folder_is_refused(settings, place):
    shutil.rmtree(place / ".mlfin")
    (place / ".mlfin").write_text("x")
    with pytest.raises(SettingsError, match="must be a folder|cannot be looked at"): check_home(settings)


def test_new_files_are_their_owners_alone(tmp_path):
    with private_files():
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "b").write_text("x")
    assert modes(tmp_path / "a") == {"0o700", "0o600"}


def test_the_data_that_come_with_the_package_may_be_read(settings):
    "In a run's kernel the package is a copy, so the project's own counts too."
    from importlib.util import find_spec
    builtin = Path(find_spec("mlfin").origin).parent / "sources" / "builtin" / "us_equities.parquet"
    assert builtin.is_file() and may_read(builtin, settings)
    assert not may_read(builtin.parents[1] / "sources.py", settings)
