#!/usr/bin/env bash
# The tests with other versions of Python, PyTorch, mmengine, mmcv and NumPy than the newest; without arguments, the rows.
#   .ci/matrix.sh
#   .ci/matrix.sh ROW [pytest's arguments]
# A row is .ci/matrix/ROW.txt, what pip installs, whose first line names the Python. It is looked for as python3.X, or given:
#   PYTHON=/path/to/python .ci/matrix.sh oldest
# The environment is made in .venvs/ROW, kept, and made anew where the row or requirements.txt have changed.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# = 0 ]; then
    for file in .ci/matrix/*.txt; do
        printf '%-10s %s\n' "$(basename "$file" .txt)" "$(sed -n '1s/^# //p' "$file")"
    done
    exit 0
fi
row=$1
shift
file=.ci/matrix/$row.txt
if [ ! -f "$file" ]; then
    echo "there is no row $row; the rows:" $(basename -s .txt .ci/matrix/*.txt) >&2
    exit 2
fi

version=$(sed -n '1s/^# Python \([0-9.]*[0-9]\).*/\1/p' "$file")
python=.venvs/$row/bin/python
wanted=$(cat "$file" requirements.txt | cksum)
if [ "$(cat ".venvs/$row/row.cksum" 2> /dev/null || true)" != "$wanted" ]; then
    "${PYTHON:-python$version}" -m venv --clear ".venvs/$row"
    found=$("$python" -c "import sys; print('%d.%d' % sys.version_info[:2])")
    if [ "$found" != "$version" ]; then
        echo "row $row is of Python $version, but ${PYTHON:-python$version} is $found" >&2
        exit 2
    fi
    "$python" -m pip install --quiet --upgrade pip
    "$python" -m pip install --quiet --progress-bar off -r "$file"
    echo "$wanted" > ".venvs/$row/row.cksum"
fi

"$python" --version
"$python" -m pip list 2> /dev/null | grep -iE '^(torch|torchvision|(onedl-)?mm(cv|cv-lite|engine|det)|numpy|opencv-python) '
"$python" -m pytest "$@"
