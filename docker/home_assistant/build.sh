#!/usr/bin/env bash
# Put the wheel and the list of packages into this folder, from which the Supervisor builds the app.
set -euo pipefail
cd "$(dirname "$0")/../.."
rm -f docker/home_assistant/async_motion-*.whl
python3 -m pip wheel --quiet --no-deps --wheel-dir docker/home_assistant .
cp docker/processor/requirements.txt docker/home_assistant/
ls docker/home_assistant/async_motion-*.whl
