"""``run_colab.sh`` on a machine with nothing but bash, git and a Python that has torch."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from conftest import descendants

from helpers import cells, data_lists, datasets, drive, fetch, manifests, notebooks, packing, paths

TINY = "toy-earth-tiny"
RUN = f"{TINY}-multi"
INSTALLED = Path(sysconfig.get_path("purelib"))
POETRY = next(iter(sorted(paths.SOURCE.glob(".poetry/lib/python3*/site-packages"))), None)

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="run_colab.sh is for Linux"), pytest.mark.alone]


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """A git repository with the files of this checkout as they are now."""
    folder = tmp_path_factory.mktemp("repository") / "origin"
    listed = subprocess.run(
        ["git", "-C", str(paths.SOURCE), "ls-files", "-coz", "--exclude-standard"], capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("this is no git checkout: which files belong to the repository is not known")
    for name in filter(None, listed.stdout.split("\0")):
        if (paths.SOURCE / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(paths.SOURCE / name, folder / name)
    commit_all(folder)
    return folder


def commit_all(folder):
    git = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for arguments in (["init", "--quiet"], ["add", "--force", "--all"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *arguments], check=True)


class Machine:
    """An empty machine: a home, a folder to start in, and a Python whose packages are those that tests run with.

    Nothing can be downloaded to it: pip finds what lies in `wheels`, and builds with the packages that there are.
    """

    def __init__(self, folder, packages):
        if POETRY is None:
            pytest.skip("no .poetry beside the checkout, so pip cannot build the project offline: run `make install`")
        self.work, self.home, self.wheels = folder / "content", folder / "home", folder / "wheels"
        for each in (self.work, self.home, self.wheels):
            each.mkdir(parents=True)
        environment = folder / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
        site_packages = environment / INSTALLED.relative_to(sys.prefix)
        (site_packages / "machine.pth").write_text(f"{packages}\n{POETRY}\n")
        self.bin = environment / "bin"
        self.environment = {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_NO_BUILD_ISOLATION": "0",  # which is pip's way to say that there is none
        }

    def start(self, *command, **options):
        return subprocess.Popen(
            [*map(str, command)], cwd=self.work, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **{"stdin": subprocess.DEVNULL, **options},
        )  # fmt: skip

    def run(self, *command, **options):
        with self.start(*command, **options) as child:
            output = child.communicate()[0]
        return child.returncode, output


@pytest.fixture
def machine(tmp_path):
    """One with torch, everything else, and what builds the project."""
    return Machine(tmp_path / "machine", INSTALLED)


def wheel(folder, name, version):
    """A package of that name, with nothing in it."""
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")


@pytest.fixture
def alone(tmp_path):
    """The file by itself, as wget gets it."""
    return shutil.copy(paths.SOURCE / "run_colab.sh", tmp_path / "run_colab.sh")


BARE = Path("/bin:/usr/bin")


def bare(folder, *command, **options):
    """Run on what is not even a Python."""
    environment = {"PATH": str(BARE), "HOME": str(folder)}
    ended = subprocess.run([*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, **options)
    return ended.returncode, ended.stdout + ended.stderr


def test_help_names_every_option_and_variable(tmp_path, alone):
    status, usage = bare(tmp_path, "bash", alone, "--help")
    assert status == 0
    script = Path(alone).read_text()
    options = set(re.findall(r"--[a-z]+(?=[ =*|)])", script.partition("main() {")[2].partition("done")[0]))
    assert {"--repository", "--commit", "--drive", "--minutes", "--help"} == options
    assert all(re.search(rf"^  {option}\b", usage, re.MULTILINE) for option in options)
    assert all(
        name in usage for name in ("REPOSITORY", "COMMIT", "DRIVE", "MINUTES", "PYTHON", "PHOTO_GEOLOCATION_ROOT")
    )
    assert max(map(len, usage.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-p", "partition", "multi"], 2, r"no repository around this file.*--repository https://"),
        (["--commit"], 2, "--commit needs a value, see --help"),
        (["--repository", "nowhere"], 1, "--repository nowhere could not be cloned"),
        (["--repository=--upload-pack=x"], 1, "could not be cloned"),
    ],
)
def test_a_wrong_call_of_the_file_alone_says_what_to_do_and_leaves_nothing(tmp_path, alone, arguments, status, message):
    for command, options in ((["bash", alone], {}), (["bash", "-s", "--"], {"input": Path(alone).read_text()})):
        ended, output = bare(tmp_path, *command, *arguments, **options)
        assert ended == status
        assert re.search(message, output), output
    assert [file.name for file in tmp_path.iterdir()] == ["run_colab.sh"]


def test_another_project_is_refused(tmp_path, alone):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README.md").write_text("another")
    commit_all(tmp_path / "other")
    status, output = bare(tmp_path, "bash", alone, "--repository", tmp_path / "other")
    assert status == 1
    assert "is another project" in output
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "run_colab.sh"]


def test_a_python_that_is_too_old_is_named(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" != --version ] || { echo Python 3.9.1; exit; }\nexit 1\n')
    old.chmod(0o755)
    ended = subprocess.run(
        ["bash", str(paths.SOURCE / "run_colab.sh")],
        env={"PATH": str(BARE), "PYTHON": str(old)}, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "python3 is Python 3.9.1, but Python 3.11, 3.12 or 3.13 is needed" in ended.stderr


def test_the_repository_is_got_at_a_commit_through_a_pipe_and_installed_beside_torch(machine, repository, alone):
    for version in ("0.1", "99.0"):
        wheel(machine.wheels, "torch", version)  # that pip could take instead
    commit = head(repository)[:12]
    script = Path(alone).read_text()
    with machine.start(
        "bash",
        "-s",
        "--",
        "--repository",
        repository,
        "--commit",
        commit,
        "-p",
        "partition",
        "mutli",
        stdin=subprocess.PIPE,
    ) as child:
        output = child.communicate(script)[0]
    assert child.returncode == 1
    torch = manifests._version("torch")
    assert f"keeping torch=={torch} torchvision==" in output
    assert "partition cannot be 'mutli', did you mean 'multi'" in output.splitlines()[-1]
    cloned = machine.work / "photo-geolocation-lab"
    where = "import helpers, importlib.metadata as m; print(helpers.__path__[0], m.version('torch'))"
    assert machine.run("python3", "-P", "-c", where)[1].split() == [str(cloned / "helpers"), torch]
    assert subprocess.run(["git", "-C", cloned, "status", "--porcelain"], capture_output=True).stdout == b""


def head(folder):
    return subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()


def test_a_clone_that_is_there_is_kept_brought_to_a_commit_and_never_loses_changes(tmp_path, repository, alone):
    origin = shutil.copytree(repository, tmp_path / "origin")
    before = head(origin)
    clone = tmp_path / "photo-geolocation-lab"
    subprocess.run(["git", "clone", "--quiet", str(origin), str(clone)], check=True)
    status, output = bare(tmp_path, "bash", alone, "--repository", "elsewhere")
    assert (status, "is no clone of elsewhere: move it away" in output) == (1, True)
    status, output = bare(tmp_path, "bash", alone, "--commit", "no-such-commit")
    assert (status, "there is no commit no-such-commit" in output) == (1, True)
    (origin / "run_colab.sh").write_text("echo another script, with $*")
    commit_all(origin)
    (clone / "README.md").write_text("changed")
    status, output = bare(tmp_path, "bash", alone, "--commit", head(origin))
    assert (status, "has changes that are not committed: commit or stash them" in output) == (1, True)
    assert head(clone) == before
    subprocess.run(["git", "-C", str(clone), "checkout", "--quiet", "README.md"], check=True)
    # The rest is done by the script of that commit.
    status, output = bare(tmp_path, "bash", alone, "--commit", head(origin), "-p", "epochs", "3")
    assert (status, output) == (0, "another script, with -- -p epochs 3\n")
    assert head(clone) == head(origin)


def test_a_project_that_would_replace_torch_is_not_installed(machine, repository, tmp_path):
    clone = shutil.copytree(repository, tmp_path / "clone")
    project = clone / "pyproject.toml"
    project.write_text(project.read_text().replace('"numpy>=1.26",', '"numpy>=1.26",\n    "torch<1",'))
    wheel(machine.wheels, "torch", "0.1")
    status, output = machine.run("bash", clone / "run_colab.sh", "multi")
    assert status == 1
    assert "the project could not be installed" in output
    assert machine.run("python3", "-c", "import torch; print(torch.__version__)")[1].startswith(
        manifests._version("torch")
    )


def test_where_there_is_no_torch_it_is_installed_and_said(tmp_path, repository):
    packages = tmp_path / "packages"
    packages.mkdir()
    for each in INSTALLED.iterdir():
        if not re.match(r"torch|functorch|nvidia|triton", each.name) and each.suffix != ".pth":
            (packages / each.name).symlink_to(each)
    server = Machine(tmp_path / "server", packages)
    for name in ("torch", "torchvision"):
        wheel(server.wheels, name, "99.0")
    status, output = server.run("bash", repository / "run_colab.sh", "multi")
    assert status == 1  # for this torch is an empty one
    assert "there is no torch torchvision here: installing it" in output
    found = "import importlib.metadata as m; print(m.version('torch'), m.version('torchvision'))"
    assert server.run("python3", "-c", found)[1].split() == ["99.0", "99.0"]


@pytest.fixture(scope="session")
def packed(tmp_path_factory):
    """A Drive with a small toy-earth: its list and photos in shards, and its cells."""
    root, drive_folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("drive")
    folder = drive_folder / drive.FOLDER
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(root))
        made = datasets.make_list(TINY, photo_count=60, seed=7, validation_share=0.2, test_share=0.1)
        data_lists.write(made.rows, made.header, paths.data_list(TINY))
        rows = data_lists.read(TINY)
        train = rows[rows["split"] == "train"]
        sizes = {"coarse": 40, "middle": 20, "fine": 10}
        partitions = cells.build_all(train["latitude"], train["longitude"], min_photos=1, max_photos=sizes)
        output = manifests.begin(
            paths.cells(TINY), "03_partitioning/build_cells", {"dataset": TINY}, {"data list": paths.data_list(TINY)}
        )
        for name, partition in partitions.items():
            cells.write(partition, output.folder / f"{name}.csv")
        cells.label_table(rows, partitions).to_parquet(output.folder / "labels.parquet")
        manifests.finish(output)
        packing.pack_dataset(TINY, rows, fetch.ensure(rows, TINY), folder / "shards" / TINY, 0, 1)
        shutil.copytree(paths.cells(TINY), folder / "03_partitioning" / "cells" / TINY)
    return drive_folder


def wait_until(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this takes too long"
        time.sleep(0.05)


def test_a_machine_that_is_lost_in_the_middle_is_followed_by_one_that_goes_on(
    tmp_path, machine, packed, repository, monkeypatch, capsys
):
    folder = shutil.copytree(packed, tmp_path / "drive")
    kept = folder / drive.FOLDER / "04_training"
    given = {"dataset": TINY, "epochs": 3, "image_size": 32, "batch_size": 4, "precision": "fp32"}
    given |= {"train_layers": "all", "architecture": "mobilenet_v3_small", "weights": "none"}
    parameters = [word for name, value in given.items() for word in ("-p", name, str(value))]
    parameters += ["-p", "checkpoint_minutes", "0.0"]
    command = ["bash", repository / "run_colab.sh", "--drive", folder, "--minutes", "0.005", *parameters]

    machine.environment["PHOTO_GEOLOCATION_ROOT"] = str(tmp_path / "first")
    child = machine.start(*command)
    try:
        wait_until(lambda: child.poll() is not None or [*kept.glob(f"checkpoints/{RUN}/checkpoint-*")])
        started = descendants(child.pid)
        os.killpg(child.pid, signal.SIGKILL)
        output = child.communicate()[0]
        assert started, output
        wait_until(lambda: not [pid for pid in started if Path(f"/proc/{pid}").exists()])
    finally:
        child.kill()
    assert "copying from the Drive" in output
    left = {file.name for file in kept.glob(f"checkpoints/{RUN}/*") if not file.name.startswith(".")}
    assert left, output
    assert all(re.fullmatch(r"checkpoint-\d{9}\.safetensors", name) for name in left)
    assert not (kept / "runs" / RUN).exists()

    machine.environment["PHOTO_GEOLOCATION_ROOT"] = str(tmp_path / "second")
    status, output = machine.run(*command)
    assert status == 0, output
    assert re.search(r"going on from step \d+", output)
    run = kept / "runs" / RUN
    assert {"model.safetensors", "manifest.json", "train.ipynb", "curves.png"} <= {file.name for file in run.iterdir()}
    assert pd.read_json(run / "metrics.jsonl", lines=True)["epoch"].tolist() == [1, 2, 3]
    assert not (kept / "checkpoints" / RUN).exists()
    assert [file.name for file in run.parent.iterdir()] == [RUN]

    # Once it is finished, the same command on a third machine only fetches it.
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(tmp_path / "third"))
    assert drive.train(parameters, folder, 1.0) == 0
    assert "is finished" in capsys.readouterr().out
    assert (paths.run(RUN) / "model.safetensors").exists()


COLAB = nbformat.read(paths.SOURCE / "colab.ipynb", as_version=4)


def test_the_notebook_for_colab_is_committed_without_outputs_and_names_no_repository():
    nbformat.validate(COLAB)
    code = [cell for cell in COLAB.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert 'repository = ""' in code[0].source
    assert COLAB.cells[0].source.startswith("# ")


def test_the_notebook_for_colab_calls_what_there_is():
    text = "\n".join(cell.source for cell in COLAB.cells)
    usage = (paths.SOURCE / "run_colab.sh").read_text()
    assert all(f"{option} " in usage for option in re.findall(r"--(?:repository|commit|drive|minutes)\b", text))
    given = set(re.findall(r"-[pr] (\w+) ", text.partition("## Next")[0]))
    assert {"partition", "dataset"} <= given <= set(notebooks.defaults("04_training/train"))
