#!/usr/bin/env bash
# Run the tests beside one release of Home Assistant, or beside the newest that this machine can have.
#
#   tests/home_assistant/run.sh [newest | 2025.4.4 | 2026.2.3 | 2026.11.0] [arguments of pytest]
#
# The release needs a Python that fits (see make_venv.sh): one that is installed, or pyenv's. For a release that is
# named, root on a Debian with debootstrap also gets that of a newer Debian, in a folder of its own. Everything is
# kept in ~/.cache/async_motion.
set -euo pipefail
cd "$(dirname "$0")/../.."

wanted=${1:-newest}
shift || true
cache="${XDG_CACHE_HOME:-$HOME/.cache}/async_motion"
pytest=${PYTEST_PYTHON:-.venv/bin/python}

fits() { # PYTHON MINOR MICRO: whether it is that Python, or a later micro release
  "$1" -c "import sys; v = sys.version_info; sys.exit(not (v[:2] == (3, $2) and v[2] >= $3))" 2>/dev/null
}

find_python() { # MINOR MICRO
  local candidate
  for candidate in "python3.$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$1".*/bin/python "$(uv python find --no-python-downloads "3.$1" 2>/dev/null)"; do
    if candidate=$(command -v "$candidate" 2>/dev/null) && fits "$candidate" "$1" "$2"; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# A newer Debian beside this one, with its Python: /tmp, the sources and the cache are the same in both.
debian() { # SUITE
  local root="$cache/debian-$1" mirror
  # The mirror that this machine uses already.
  mirror=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | grep -m 1 -v security) || return 1
  [ "$(id -u)" = 0 ] && command -v debootstrap unshare >/dev/null || return 1
  if [ ! -e "$root/.complete" ]; then
    rm -rf "$root"
    debootstrap --variant=minbase \
      --include=python3,python3-venv,python3-dev,libturbojpeg0,ca-certificates,gcc,libc6-dev \
      "$1" "$root" "$mirror" /usr/share/debootstrap/scripts/sid >&2 || return 1
    touch "$root/.complete"
  fi
  mkdir -p "$root$cache" "$root/tmp" "$root/proc" "$root/dev"
  cat >"$cache/python-$1" <<END
#!/bin/sh
# The Python of Debian $1, in its folder; exec keeps the process id, by which it is stopped.
exec unshare -m sh -c 'for d in /tmp /proc /dev "$cache"; do mount --rbind "\$d" "$root\$d"; done
exec chroot "$root" "\$@"' sh "\${AM_PYTHON:-/usr/bin/python3}" "\$@"
END
  chmod +x "$cache/python-$1"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  # Of the same authorities as here.
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  echo "$cache/python-$1"
}

python_for() { # RELEASE
  case $1 in
    2025.4.4) find_python 13 0 ;;
    2026.2.3) find_python 13 2 || debian trixie ;;
    2026.11.0) find_python 14 2 || debian forky ;;
    *)
      echo "release $1 is not known, expected 2025.4.4, 2026.2.3, 2026.11.0 or newest" >&2
      exit 2
      ;;
  esac
}

if [ "$wanted" = newest ]; then
  debian() { return 1; } # of the Pythons that are here: a new Debian is made only for a release that is named
  for release in 2026.11.0 2026.2.3 2025.4.4; do
    if python=$(python_for "$release"); then break; fi
  done
else
  release=$wanted
  python=$(python_for "$release")
fi || true
if [ -z "${python:-}" ]; then
  echo "no Python here fits Home Assistant $release" >&2
  exit 1
fi

folder="$cache/home-assistant-$release"
if [ "$release" = 2025.4.4 ] && [ -d "$cache/home-assistant" ]; then folder="$cache/home-assistant"; fi
PATH="$PWD/.venv/bin:$PATH" bash tests/home_assistant/make_venv.sh "$folder" "$python" "$release"
ha_python="$folder/bin/python"
# Of an interpreter in another Debian, the way into it.
if [ -x "$folder/python-outside" ]; then ha_python="$folder/python-outside"; fi
echo "Home Assistant $release on $("$ha_python" --version)"
HA_PYTHON="$ha_python" exec "$pytest" -m pytest -q -n "${HA_TESTS_AT_ONCE:-2}" -m home_assistant tests/home_assistant "$@"
