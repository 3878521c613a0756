#!/bin/sh
# Runs a command with the builder's settings of package indexes: the secret `index`, a file of NAME='value' lines.
set -eu
set -a
[ ! -f /run/secrets/index ] || . /run/secrets/index
exec "$@"
