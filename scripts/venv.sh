# Sourced by the scripts, with the repository as the working folder: provides .venv/bin/python with
# what requirements-dev.txt pins. Quiet and quick (a few ms) when that is the case already.
#
# The stamp, written last, says for which lock file and which Python the folder is complete.

venv_lock=$(cksum <requirements-dev.txt) || exit 1
venv_stamp=$(cat .venv/complete-for 2>/dev/null) || venv_stamp=
if [ "$venv_stamp" != "$venv_lock $(.venv/bin/python -V 2>&1)" ]; then
    venv_python= venv_almost=
    for venv_candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        # Run, not merely found: the shims of pyenv exist for versions that are not active.
        if "$venv_candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            if "$venv_candidate" -c 'import ensurepip, venv' 2>/dev/null; then
                venv_python=$venv_candidate
                break
            fi
            venv_almost=$venv_candidate
        fi
    done
    if [ -n "$venv_python" ]; then
        # -I: not this folder's modules, nor the user's. It waits for whoever else is at it.
        "$venv_python" -I scripts/make_venv.py "$venv_lock" || exit 1
    elif [ -n "$venv_almost" ]; then
        echo "$venv_almost has no venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2
        exit 1
    else
        echo "Python 3.11 or newer is needed: install it, or name it in the variable PYTHON" >&2
        exit 1
    fi
fi
unset venv_lock venv_stamp venv_python venv_almost venv_candidate
