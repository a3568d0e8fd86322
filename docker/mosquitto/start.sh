#!/bin/sh
# Starts mosquitto with a user for each secret mqtt_<user>_password. The passwords are hashed in place and never
# stand on a command line.
set -eu
secrets=${SECRETS:-/run/secrets}
passwords=${PASSWORDS:-/tmp/passwords}

umask 077
for secret in "$secrets"/mqtt_*_password; do
  user=${secret##*/mqtt_}
  printf '%s:%s\n' "${user%_password}" "$(cat "$secret")"
done >"$passwords"
mosquitto_passwd -U "$passwords"
chown mosquitto "$passwords"
exec mosquitto -c "${CONFIG:-/mosquitto/config/mosquitto.conf}"
