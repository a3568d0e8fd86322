#!/bin/sh
# Starts mosquitto with a user for each secret mqtt_<user>_password, and its access list. The passwords are hashed
# in place and never stand on a command line.
#   async_motion     what `async-motion policy mosquitto` prints: its own topics, and its entities' discovery
#   homeassistant    everything: it is the hub for other devices too
#   any other user   may read what async_motion publishes
set -eu
secrets=${SECRETS:-/run/secrets}
scratch=${SCRATCH:-/tmp}
instance=${INSTANCE:-edge1}

umask 077
mkdir -p "$scratch/health"
health=$(head -c 18 /dev/urandom | base64)
{
  printf 'health:%s\n' "$health"
  for secret in "$secrets"/mqtt_*_password; do
    user=${secret##*/mqtt_}
    printf '%s:%s\n' "${user%_password}" "$(cat "$secret")"
  done
} >"$scratch/passwords"
mosquitto_passwd -U "$scratch/passwords"
# Where mosquitto_sub looks for its options: the health check's login.
printf -- '-u health\n-P %s\n' "$health" >"$scratch/health/mosquitto_sub"

{
  printf 'user health\ntopic read $SYS/broker/uptime\n'
  for secret in "$secrets"/mqtt_*_password; do
    user=${secret##*/mqtt_}
    user=${user%_password}
    printf '\nuser %s\n' "$user"
    case $user in
      async_motion)
        printf 'topic readwrite async_motion/%s/#\n' "$instance"
        printf 'topic readwrite homeassistant/device/async_motion_%s/#\n' "$instance"
        printf 'topic read homeassistant/status\n'
        ;;
      homeassistant) printf 'topic readwrite #\n' ;;
      *) printf 'topic read async_motion/#\n' ;;
    esac
  done
} >"$scratch/acl"
exec mosquitto -c "${CONFIG:-/mosquitto/config/mosquitto.conf}"
