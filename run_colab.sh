#!/usr/bin/env bash
# Train on Colab or on a plain server; `bash run_colab.sh --help` says how.
set -euo pipefail

usage() {
    cat <<'USAGE'
Train on Colab or on a plain Linux server, and go on after a disconnect.

    bash run_colab.sh [OPTION]... [--] [ARGUMENT OF PAPERMILL]...
    bash run_colab.sh -p partition multi -p epochs 5

Gets the repository unless it lies in one, installs it without replacing torch, copies what the dataset has on the Drive
to this machine, and runs 04_training/train.ipynb. Checkpoints and the executed notebook go to the Drive meanwhile, the
run at the end. The same command again, on this machine or a new one, goes on where the last one was.

Options, each also an environment variable:
  --repository URL  REPOSITORY  get it from here into ./photo-geolocation-lab (default: the one that this file lies in)
  --commit REV      COMMIT      check out this commit or tag of it (default: as it is)
  --drive FOLDER    DRIVE       a folder that outlives this machine, or "" (default: /content/drive/MyDrive if mounted)
  --minutes N       MINUTES     between two times of writing to the Drive (default: 10)
  --help

Also: PYTHON, a Python from 3.11 to 3.13 (default: the first of python3, python3.13, python3.12, python3.11 that is);
PHOTO_GEOLOCATION_ROOT, a folder for data and outputs (default: the repository).

On the Drive, in photo-geolocation-lab/: shards/DATASET/ (from `make pack`) and, as a checkout has them, data-lists/,
02_scenes/scenes/DATASET/, 03_partitioning/ and 04_training/.

Exit status: 0 all is well; 1 training or its preparation failed; 2 wrong usage; 3 trained, but not all is on the Drive;
128 + N ended by signal N.
USAGE
}

fail() {
    printf 'run_colab.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

main() {
    while (($#)); do
        case $1 in
            -h | --help) usage; exit ;;
            --repository=* | --commit=* | --drive=* | --minutes=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
            --repository | --commit | --drive | --minutes)
                (($# > 1)) || fail "$1 needs a value, see --help" 2
                local name=${1#--}
                printf -v "${name^^}" %s "$2"
                shift 2
                ;;
            --) shift; break ;;
            *) break ;;
        esac
    done
    # Exported, because another commit's own run_colab.sh may do the rest.
    export DRIVE=${DRIVE-$(mounted_drive)} MINUTES=${MINUTES:-10}
    local here
    here=$(repository_here)
    if [[ -n ${REPOSITORY:-} ]]; then
        get_repository "$REPOSITORY" photo-geolocation-lab
        here=$PWD/photo-geolocation-lab
    elif [[ -z $here ]]; then
        is_repository photo-geolocation-lab || fail "there is no repository around this file, nor ./photo-geolocation-lab: \
say where to get it, --repository https://github.com/OWNER/photo-geolocation-lab" 2
        here=$PWD/photo-geolocation-lab
    fi
    [[ -z ${COMMIT:-} ]] || check_out "$here" "$COMMIT"
    if [[ $here != "$(repository_here)" || -n ${COMMIT:-} ]]; then
        unset REPOSITORY COMMIT
        exec bash "$here/run_colab.sh" -- "$@"
    fi
    local python
    python=$(supported_python)
    python=$(writable_python "$python" "$here")
    install "$python" "$here"
    exec "$python" -P -m helpers.drive --drive="$DRIVE" --minutes="$MINUTES" -- "$@"
}

mounted_drive() {
    [[ ! -d /content/drive/MyDrive ]] || echo /content/drive/MyDrive
}

is_repository() {
    [[ -f $1/helpers/drive.py && -f $1/04_training/train.ipynb ]]
}

# The repository that this file lies in; nothing where it came alone, or through a pipe.
repository_here() {
    local file=${BASH_SOURCE[0]:-} folder
    [[ -f $file ]] || return 0
    folder=$(cd "$(dirname "$file")" && pwd -P)
    ! is_repository "$folder" || echo "$folder"
}

get_repository() {
    local url=$1 folder=$2
    command -v git >/dev/null || fail "git is not installed: install it, or start this file from a copy of the repository"
    if [[ -e $folder ]]; then
        local origin
        origin=$(git -C "$folder" config --get remote.origin.url 2>/dev/null) || true
        [[ $origin == "$url" ]] || fail "./$folder is no clone of $url: move it away, or leave out --repository"
        return 0
    fi
    echo "getting $url"
    rm -rf ".$folder.partial"
    git clone --quiet -- "$url" ".$folder.partial" </dev/null || fail "--repository $url could not be cloned, see above"
    is_repository ".$folder.partial" || {
        rm -rf ".$folder.partial"
        fail "$url is another project: it has no helpers/drive.py and 04_training/train.ipynb"
    }
    mv ".$folder.partial" "$folder"
}

check_out() {
    local folder=$1 commit=$2 present found
    present=$(commit_in "$folder" HEAD) || fail "$folder is no git repository: leave out --commit"
    if ! found=$(commit_in "$folder" "$commit"); then
        git -C "$folder" fetch --quiet --tags origin </dev/null || true
        found=$(commit_in "$folder" "$commit") || fail "there is no commit $commit in $folder: correct --commit"
    fi
    [[ $found != "$present" ]] || return 0
    [[ -z $(git -C "$folder" status --porcelain --untracked-files=no) ]] ||
        fail "$folder has changes that are not committed: commit or stash them, or leave out --commit"
    git -C "$folder" checkout --quiet --detach "$found" || fail "$commit could not be checked out in $folder, see above"
}

commit_in() {
    git -C "$1" rev-parse --quiet --verify --end-of-options "$2^{commit}" 2>/dev/null
}

supported_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>&1 || true), but Python 3.11, 3.12 or 3.13 is needed: \
install one, or name it in PYTHON"
}

# A Python into which packages may be installed: the given one, or that of a virtual environment above it.
writable_python() {
    local python=$1 repository=$2
    if [[ ! -x $repository/.venv/bin/python ]]; then
        if "$python" - <<'PY'
import os, sys, sysconfig
managed = os.path.exists(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED"))
sys.exit(sys.prefix == sys.base_prefix and (managed or not os.access(sysconfig.get_path("purelib"), os.W_OK)))
PY
        then
            echo "$python"
            return
        fi
        echo "packages of $python belong to the system: making an environment above it in $repository/.venv" >&2
        "$python" -m venv --system-site-packages "$repository/.venv" >&2 || {
            rm -rf "$repository/.venv"
            fail "no virtual environment could be made: install the system's python3-venv, or start this in an environment"
        }
    fi
    echo "$repository/.venv/bin/python"
}

version_of() {
    "$1" -c 'import importlib.metadata as m, sys; print(m.version(sys.argv[1]))' "$2" 2>/dev/null || true
}

install() {
    local python=$1 repository=$2 name version kept=() missing=()
    "$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip: install it ($python -m ensurepip)"
    for name in torch torchvision; do
        version=$(version_of "$python" "$name")
        if [[ -n $version ]]; then kept+=("$name==$version"); else missing+=("$name"); fi
    done
    ((${#missing[@]} == 0)) || echo "there is no ${missing[*]} here: installing it"
    echo "installing the project for $python${kept[*]:+, keeping ${kept[*]}}"
    "$python" -m pip install --quiet --disable-pip-version-check --constraint <(printf '%s\n' "${kept[@]}") \
        --editable "$repository" "${missing[@]}" </dev/null || fail "the project could not be installed, see above"
    for name in "${kept[@]}"; do
        version=$(version_of "$python" "${name%%==*}")
        [[ $version == "${name#*==}" ]] || fail "installing has replaced $name by $version: install $name again"
    done
    if [[ $python == "$repository/.venv/bin/python" ]]; then
        # Else a notebook could run in a kernel of the system, which does not know the environment.
        "$python" -m ipykernel install --sys-prefix --display-name "Photo geolocation lab" >/dev/null
    fi
}

main "$@"
