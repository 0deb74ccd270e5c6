#!/bin/sh
# The official image's server has its protected mode off.
set -eu
[ "$1" != valkey-server ] || set -- "$@" --protected-mode no
exec "$@"
