#!/bin/sh
# Kong takes up its configuration and its certificate at a reload; the vault's agent writes them anew when they change.
set -u
cd "$RENDERED"
KONG_NGINX_DAEMON=off kong start &
kong=$!
trap 'kong quit --timeout 50' TERM INT
taken=$(cksum kong.yaml tls.crt tls.key)
while kill -0 "$kong" 2>/dev/null; do
  sleep "$CHECK_SECONDS" &
  wait $!
  now=$(cksum kong.yaml tls.crt tls.key) || continue
  if [ "$now" != "$taken" ]; then
    kong reload && taken=$now
  fi
done
wait "$kong"
