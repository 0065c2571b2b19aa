import pytest

from mlfin.core.errors import SettingsError
from mlfin.core.settings import load_settings, project_root

INI = ("[DEFAULT]\nstore = .mlfin/{profile}/lake\nmlflow = sqlite:///.mlfin/{profile}/mlflow.db\n"
       "artifacts = .mlfin/{profile}/a\nledger = .mlfin/{profile}/t.sqlite\n")


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("MLFIN_PROFILE", "MLFIN_ROOT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pipeline.yaml").write_text("tasks: []")
    (tmp_path / "settings.ini").write_text(INI + "[development]\n[production]\nthreads = 4\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_root_is_found_from_below(project, monkeypatch):
    (project / "nbs" / "core").mkdir(parents=True)
    monkeypatch.chdir(project / "nbs" / "core")
    assert project_root() == project.resolve()


def test_root_named_outright_must_be_a_folder(project, monkeypatch):
    monkeypatch.setenv("MLFIN_ROOT", str(project / "settings.ini"))
    with pytest.raises(SettingsError, match="MLFIN_ROOT"):
        project_root()


def test_precedence(project, monkeypatch):
    assert load_settings().profile == "development"
    monkeypatch.setenv("MLFIN_PROFILE", "production")
    assert load_settings().threads == 4
    monkeypatch.setenv("MLFIN_THREADS", "2")
    assert load_settings().threads == 2
    assert load_settings("development").profile == "development"


def test_profiles_never_share_a_place(project):
    a, b = load_settings("development"), load_settings("production")
    assert not {a.store, a.mlflow, a.artifacts, str(a.ledger)} & {
        b.store,
        b.mlflow,
        b.artifacts,
        str(b.ledger),
    }


@pytest.mark.parametrize("line, message", [
    ("thread = 2", "did you mean `threads`"),
    ("threads = 0", "threads"),
    ("device = tpu", "device"),
    ("task_timeout = soon", "task_timeout"),
])
def test_bad_lines_are_named(project, line, message):
    (project / "settings.ini").write_text(INI + f"[development]\n{line}\n")
    with pytest.raises(SettingsError, match=message):
        load_settings()


def test_unknown_environment_key(project, monkeypatch):
    monkeypatch.setenv("MLFIN_THREDS", "2")
    with pytest.raises(SettingsError, match="MLFIN_THREADS"):
        load_settings()


def test_unreadable_ini(project):
    (project / "settings.ini").write_text("no section\n")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings()


def test_a_script_finds_its_project_from_the_folder_above(tmp_path):
    """`python project/script.py`: the working directory first, then the script's own folder; a command or
    `-m` has none."""
    import os
    import subprocess
    import sys

    project = tmp_path / "project"
    project.mkdir()
    for name in ("pipeline.yaml", "settings.ini"):
        (project / name).write_text("[DEFAULT]\n")
    (project / "script.py").write_text(
        "from mlfin.core.settings import project_root\nprint(project_root().name)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "MLFIN_ROOT"}

    def run(*words):
        return subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, env=environment
        )

    assert run("project/script.py").stdout.strip() == "project"
    done = run("-c", "from mlfin.core.settings import project_root; project_root()")
    assert done.returncode and "No mlfin project" in done.stderr
