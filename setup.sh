#!/usr/bin/env bash
# What the Makefile needs of a machine.
#   setup.sh venv DIR     a virtual environment with Python >= 3.12 (found, or fetched by uv) and lockgate in it, editable
#   setup.sh packages     the Debian packages that the live tests use: installed when root, otherwise named
#   setup.sh tap DIR      the extra of `lockgate tap`, for its tests: without it they are skipped
#   setup.sh windows      does the project resolve on Windows? (asks the package index)
set -euo pipefail
cd "$(dirname "$0")"

MINIMUM=3.12
PACKAGES=(nftables iproute2 curl git libnss3-tools nginx-light openssl chromium nodejs gnutls-bin wget libc-icap-mod-contentfiltering)
PROGRAMS=(nft ip curl git certutil nginx openssl chromium node gnutls-cli wget c-icap)

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; }

find_python() {  # the newest Python >= 3.12 there is: an explicit one, on PATH, of pyenv, of the system
  local candidate
  for candidate in ${PYTHON:-} python3.14 python3.13 python3.12 python3 \
      "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python3 ~/.local/bin/python3.1[2-9] \
      "$(pyenv root 2>/dev/null || true)"/versions/3.1[2-9]*/bin/python3 /usr/local/bin/python3.1[2-9] /opt/python*/bin/python3; do
    if candidate=$(command -v "$candidate" 2>/dev/null) && new_enough "$candidate"; then echo "$candidate"; return; fi
  done
  return 1
}

find_uv() {  # uv itself: on PATH, or from the package index into a folder of its own
  if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then command -v uv; return; fi
  local home=${XDG_CACHE_HOME:-$HOME/.cache}/lockgate-uv
  [[ -x $home/bin/uv ]] || { python3 -m venv "$home" && "$home/bin/pip" install -q uv; } >&2
  echo "$home/bin/uv"
}

venv() {
  local dir=$1 python uv
  uv=$(find_uv)
  if ! python=$(find_python); then
    echo "no Python >= $MINIMUM on this machine: fetching one with uv" >&2
    "$uv" python install -q "$(cat .python-version)" || {
      echo "error: lockgate needs Python >= $MINIMUM and none could be found or fetched." >&2
      echo "       Install one and name it:  make PYTHON=/path/to/python3.12 ..." >&2; exit 2; }
    python=$("$uv" python find "$(cat .python-version)")
  fi
  echo "setting up $dir with $("$python" --version)" >&2
  "$uv" venv -q --clear --python "$python" "$dir"
  "$uv" pip install -q --python "$dir/bin/python" -e . --group dev
  # the worker runs with -O as a user that cannot write caches: without them it would compile mitmproxy at each start
  "$dir/bin/python" -m compileall -q -o 0 -o 1 "$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    addons certs proxy redirector lockgate.py >/dev/null || true
  touch "$dir/.ready"
}

packages() {
  local missing=() i
  for i in "${!PROGRAMS[@]}"; do command -v "${PROGRAMS[i]}" >/dev/null || missing+=("${PACKAGES[i]}"); done
  [[ ${#missing[@]} -eq 0 ]] && return
  if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
    echo "installing for the live tests: ${missing[*]}" >&2
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } >/dev/null
  else
    echo "not installed (tests that need them are skipped): ${missing[*]}" >&2
  fi
}

windows() { "$(find_uv)" pip compile -q --python-version 3.13 --python-platform windows pyproject.toml -o /dev/null; }

tap() {
  local python=$1/bin/python
  "$python" -c 'import frida' 2>/dev/null || "$(find_uv)" pip install -q --python "$python" "$(grep -o 'frida>=[0-9.]*' pyproject.toml | head -1)"
}

case ${1:-} in
  venv) venv "${2:?a folder}";;
  packages) packages;;
  tap) tap "${2:?a folder}";;
  windows) windows;;
  *) sed -n 2,6p "$0"; exit 2;;
esac
