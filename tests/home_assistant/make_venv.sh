#!/usr/bin/env bash
# Make the virtual environment in which tests/home_assistant runs a real Home Assistant.
#
#   tests/home_assistant/make_venv.sh FOLDER [PYTHON] [RELEASE]
#   HA_PYTHON=FOLDER/bin/python pytest -m home_assistant tests/home_assistant
#
# RELEASE is 2025.4.4 (the default, for Python 3.13), 2026.2.3 (Python 3.13.2 or later) or 2026.11.0 (Python 3.14.2
# or later, and a C compiler where a wheel is missing). About 810 MB; 1.5 minutes with uv, 7 with pip. A folder
# that is complete already is left as it is, so that it can be cached. The system's libturbojpeg is needed too.
set -euo pipefail

folder=${1:?"where to? $0 FOLDER [PYTHON] [RELEASE]"}
python=${2:-python3.13}
release=${3:-2025.4.4}
# What the release itself leaves to be installed when an integration is first used.
case $release in
  2025.4.4)
    needs="(3, 13)"
    more=(paho-mqtt==2.1.0 home-assistant-frontend==20250411.0 PyTurboJPEG==1.7.5 av==13.1.0 numpy==2.2.2)
    ;;
  2026.2.3)
    needs="(3, 13, 2)"
    more=(paho-mqtt==2.1.0 home-assistant-frontend==20260128.6 PyTurboJPEG==1.8.0 av==16.0.1 numpy==2.3.2)
    ;;
  2026.11.0)
    needs="(3, 14, 2)"
    more=(paho-mqtt==2.1.0 home-assistant-frontend==20261028.4 PyTurboJPEG==1.8.3 av==19.0.0 numpy==2.3.2
      aiohasupervisor==0.8.1)
    ;;
  *)
    echo "release $release is not known, expected 2025.4.4, 2026.2.3 or 2026.11.0" >&2
    exit 2
    ;;
esac
packages=("homeassistant==$release" "${more[@]}")
stamp="$folder/.complete"

if [ "$(cat "$stamp" 2>/dev/null)" = "${packages[*]}" ]; then
  exit 0
fi
fits="import sys; v = $needs; sys.exit(not (v <= sys.version_info and v[:2] == sys.version_info[:2]))"
"$python" -c "$fits" ||
  { echo "$python does not fit Home Assistant $release, which wants Python $needs" >&2; exit 1; }
rm -f "$stamp"
"$python" -m venv "$folder"
interpreter="$folder/bin/python"
rm -f "$folder/python-outside"
if ! "$interpreter" -c "$fits" 2>/dev/null; then
  # Its link leads to an interpreter of another Debian (run.sh): here, nothing or a wrong one has that path.
  interpreter="$folder/python-outside"
  printf '#!/bin/sh\nAM_PYTHON=%s exec %s "$@"\n' "$folder/bin/python" "$python" >"$interpreter"
  chmod +x "$interpreter"
  "$interpreter" -m pip install --quiet uv
  UV_CACHE_DIR="${folder%/*}/uv" "$interpreter" -m uv pip install --quiet --python "$folder/bin/python" "${packages[@]}"
elif command -v uv >/dev/null; then
  uv pip install --quiet --python "$interpreter" "${packages[@]}"
else
  "$interpreter" -m pip install --quiet "${packages[@]}"
fi
echo "${packages[*]}" >"$stamp"
