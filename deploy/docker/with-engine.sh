#!/bin/sh
# Runs a command with a container engine: the one that answers, else one of its own that ends with it.
#   with-engine.sh ENGINE COMMAND...
# ENGINE is a folder with dockerd-start.sh (starts an engine in a folder) and mkbase.sh (makes the base image's files from
# Debian's packages and a Python of this machine), for machines that have neither an engine nor an image registry.
set -eu
scripts=$1
shift

docker=docker
[ ! -x /usr/bin/docker ] || docker=/usr/bin/docker # the distribution's, which goes with the distribution's engine
if $docker version >/dev/null 2>&1; then
  exec "$@"
fi
[ -f "$scripts/dockerd-start.sh" ] || { echo "No container engine answers, and $scripts has no dockerd-start.sh." >&2; exit 1; }

missing=
for package in docker.io debootstrap runc; do
  dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
if [ -n "$missing" ]; then
  apt-get update -qq
  # shellcheck disable=SC2086 # one word a package
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
docker=/usr/bin/docker

cache=${XDG_CACHE_HOME:-$HOME/.cache}/weighbridge-docker
engine=$cache/engine-test
base=python:3.13-slim-bookworm
python=${BASE_PYTHON:-$(pyenv prefix 3.13 2>/dev/null || pyenv prefix 3.13.0)}
mkdir -p "$cache"
[ -x "$cache/rootfs/usr/local/bin/python3.13" ] || "$scripts/mkbase.sh" "$cache/rootfs" "$python" >"$cache/mkbase.log" 2>&1

stop() {
  pid=$(cat "$engine/dockerd.pid" 2>/dev/null) || return 0
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  awk -v e="$engine/" 'index($2, e) == 1 { print $2 }' /proc/mounts | while read -r mount; do umount -l "$mount"; done
  ip link del docker0 2>/dev/null || true
}
trap stop EXIT
"$scripts/dockerd-start.sh" "$engine" overlay2 bridge
export DOCKER_HOST="unix://$engine/docker.sock" DOCKER_BUILDKIT=0
$docker image inspect "$base" >/dev/null 2>&1 || tar -C "$cache/rootfs" -c . | $docker import - "$base" >/dev/null
"$@"
