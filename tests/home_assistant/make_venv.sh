#!/usr/bin/env bash
# Make the virtual environment in which tests/home_assistant runs a real Home Assistant.
#
#   tests/home_assistant/make_venv.sh FOLDER [PYTHON3.13]
#   HA_PYTHON=FOLDER/bin/python pytest -m home_assistant tests/home_assistant
#
# About 810 MB; 1.5 minutes with uv, 7 with pip. A folder that is complete already is left as it is, so that it
# can be cached. 2025.4.4 is the newest release for Python 3.13.0; the system's libturbojpeg is needed too.
set -euo pipefail

folder=${1:?"where to? $0 FOLDER [PYTHON3.13]"}
python=${2:-python3.13}
packages=(homeassistant==2025.4.4 paho-mqtt==2.1.0 home-assistant-frontend==20250411.0
  PyTurboJPEG==1.7.5 av==13.1.0 numpy==2.2.2)
stamp="$folder/.complete"

if [ "$(cat "$stamp" 2>/dev/null)" = "${packages[*]}" ]; then
  exit 0
fi
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' ||
  { echo "$python is not Python 3.13, which Home Assistant 2025.4 wants" >&2; exit 1; }
rm -f "$stamp"
"$python" -m venv "$folder"
if command -v uv >/dev/null; then
  uv pip install --quiet --python "$folder/bin/python" "${packages[@]}"
else
  "$folder/bin/pip" install --quiet "${packages[@]}"
fi
echo "${packages[*]}" >"$stamp"
