#!/usr/bin/env bash
# Build the wheel, install it in a clean environment away from the checkout, and let it draft: what a user of the registry gets.
# usage: tests/wheel.sh PYTHON    (an interpreter that has `build`)
set -euo pipefail
python=$(realpath -s "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"
"$python" -m build --wheel --outdir "$work/dist" >"$work/build.log" 2>&1 || { tail -20 "$work/build.log" >&2; exit 1; }
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet "$(ls "$work"/dist/*.whl)[cpu]"
cd "$work"
"$work/venv/bin/python" "$root/tests/wheel_check.py"
"$work/venv/bin/regen" demo --out demo
test -s demo/index.html
"$work/venv/bin/python" -m pip check
echo "the wheel works: $(ls "$work/dist")"
