#!/bin/sh
# Makes the passwords that compose.yaml needs, random, each once: existing ones stay.
set -eu
cd "$(dirname "$0")"
umask 077

random() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }

mkdir -p secrets
for name in minio_uploader_secret_key mqtt_async_motion_password mqtt_homeassistant_password web_token; do
  if [ ! -s "secrets/$name" ]; then
    random >"secrets/$name"
    # Containers read it as users of their own; on this machine the folder keeps others out.
    chmod 444 "secrets/$name"
  fi
done
if [ ! -e .env ]; then
  printf '# The root user of MinIO, for its console on port 9001.\nMINIO_ACCESS_KEY=admin\nMINIO_SECRET_KEY=%s\n' "$(random)" >.env
fi
echo "docker/.env and docker/secrets are ready."
