#!/bin/bash
# Base images for ops/compose.yaml, for a machine that cannot pull the official ones: Debian's
# packages and Kafka's jars. Needs Docker, debootstrap (as root) and Maven; ops/docs/compose.md says
# how to use what it makes. Prints the variables that name the images, as ops/.env takes them.
#
#   ops/images/build.sh [FOLDER]     a folder of wheels, say PyTorch's for the CPU, becomes an image too
set -euo pipefail
suite=${SUITE:-bookworm}
mirror=${MIRROR:-}  # else debootstrap's own
wheels=${1:-}
work=$(mktemp -d)
# debootstrap may leave /proc mounted in its folder.
clean() { umount "$work/root/proc" 2>/dev/null || true; rm -rf --one-file-system "$work"; }
trap clean EXIT
[ -z "$wheels" ] || wheels=$(realpath "$wheels")
cd "$(dirname "$0")"

say() { echo "$*" >&2; }

if ! docker image inspect "burnish-debian:$suite" >/dev/null 2>&1; then
  say "Debian $suite, by debootstrap"
  debootstrap --variant=minbase --include=ca-certificates "$suite" "$work/root" $mirror >&2
  tar --one-file-system -C "$work/root" --exclude='./var/cache/apt/archives/*.deb' -c . |
    docker import - "burnish-debian:$suite" >&2
fi

say "Kafka's jars, by Maven"
mvn -q -B -f ../kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$work/context/kafka" >&2
cp Dockerfile ./*.sh "$work/context"

# stage, variable, and the command that tells the version, which is the image's tag
made() {
  local stage=$1 variable=$2 version
  say "$stage"
  docker build -q --build-arg "DEBIAN=burnish-debian:$suite" --target "$stage" -t "burnish-$stage" "$work/context" >/dev/null
  version=$(docker run --rm --entrypoint bash "burnish-$stage" -c "$3" | grep -oE '[0-9]+(\.[0-9]+)+' | head -1)
  docker tag "burnish-$stage" "burnish-$stage:$version"
  docker rmi "burnish-$stage" >/dev/null
  echo "$variable=burnish-$stage:$version"
}
made python PYTHON_IMAGE 'python --version'
made redis REDIS_IMAGE 'redis-server --version'
made postgres POSTGRES_IMAGE 'postgres --version'
made kafka KAFKA_IMAGE 'ls /opt/kafka/libs | grep "kafka-clients"'

if [ -n "$wheels" ]; then
  printf 'FROM scratch\nCOPY *.whl /\n' | docker build -q -t burnish-wheels -f - "$wheels" >/dev/null
  echo "WHEELS_IMAGE=burnish-wheels"
fi
